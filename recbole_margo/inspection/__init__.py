"""What is in a dataset, and whether its features belong to its items."""
