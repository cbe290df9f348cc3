"""Raw texts, images and sounds of items to feature matrices: `recbole-margo encode`."""

from recbole_margo.encode.command import main

__all__ = ["main"]
