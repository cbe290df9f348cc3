"""Runs of a study: their folders, plan, and the pool that trains them."""
