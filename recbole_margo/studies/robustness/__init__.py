"""What planted corruption costs, and whether the weights tell."""
