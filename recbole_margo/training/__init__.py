"""Training in stages on RecBole's `Trainer`, with safe checkpoints and exact resumption."""
