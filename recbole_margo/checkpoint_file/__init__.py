"""Checkpoints read as data: what a file names is compared with a list and never called."""
