"""The exception of everything that is wrong with input data, under its first name."""

from __future__ import annotations

from recbole_margo.errors import DataError

__all__ = ["DataError"]
