"""Why a checkpoint is not read, and the checks that refuse it."""

from __future__ import annotations

from typing import Any

from recbole_margo.errors import CheckpointError


class RefusalError(CheckpointError):
    """A file holds what no checkpoint holds; the message completes "it ..."."""


class ForeignNameError(RefusalError):
    """A file names a class or function that RecBole does not write."""

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name:.200}, which RecBole does not write into a checkpoint")


def expect(condition: bool, what: str) -> None:
    """Refuse a file.

    Raises:
        RefusalError: if it does not hold.
    """
    if not condition:
        raise RefusalError(f"holds {what}")


def is_count(value: Any, most: int) -> bool:
    """Return whether a value is an integer from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def checked_shape(value: Any, most: int) -> tuple[int, ...]:
    """Return a shape or strides.

    Raises:
        RefusalError: if it is no tuple of such numbers.
    """
    sizes = isinstance(value, tuple) and all(is_count(part, most) for part in value)
    expect(sizes and len(value) <= 16, "a shape of impossible sizes")
    return tuple(value)
