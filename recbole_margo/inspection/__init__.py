"""The content of a dataset, and whether its features belong to its items."""
