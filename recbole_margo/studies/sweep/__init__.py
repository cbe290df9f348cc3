"""A model's quality over the values of its hyper-parameters."""
