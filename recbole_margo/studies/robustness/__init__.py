"""The cost of planted corruption, and whether the weights tell."""
