"""Interactions as RecBole loads and splits them, and the features of items in memory."""
