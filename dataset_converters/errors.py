"""The exception of everything that is wrong with input data."""

from __future__ import annotations


class DataError(ValueError):
    """Input data is not what was expected; the message names the file, the field and the remedy."""
