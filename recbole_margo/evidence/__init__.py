"""Evidence of how far an item's features can be trusted, with a trained model and without one."""
