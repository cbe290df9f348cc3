"""Which items' modalities a trained MARGO does not trust, and why."""
