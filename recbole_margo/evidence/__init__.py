"""Evidence that an item's features belong to it, which no model was fitted to."""
