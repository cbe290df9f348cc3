"""A search of hyper-parameters on validation."""
