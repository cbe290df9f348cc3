"""What is in a dataset, and whether its features belong to its items: `recbole-margo inspect`."""

from recbole_margo.inspection.command import main

__all__ = ["main"]
