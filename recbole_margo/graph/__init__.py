"""Sparse graphs built once from the training interactions and the item features."""
