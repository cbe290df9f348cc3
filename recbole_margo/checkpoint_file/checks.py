"""What the shapes of records are checked with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from recbole_margo.checkpoint_file.opcodes import Call
from recbole_margo.checkpoint_file.refusal import RefusalError


def expect(condition: bool, what: str) -> None:
    """Refuse a file.

    Args:
        condition: what holds in every checkpoint.
        what: what the file holds otherwise.

    Raises:
        RefusalError: if it does not hold.
    """
    if not condition:
        raise RefusalError(f"holds {what}")


def is_call(record: Any, *names: str) -> bool:
    """Return whether a record is an object that one of some functions made."""
    return isinstance(record, Call) and str(record.target) in names


def is_count(value: Any, most: int) -> bool:
    """Return whether a value is an integer from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def checked_shape(value: Any, most: int) -> tuple[int, ...]:
    """Return a shape or strides.

    Args:
        value: what the file says.
        most: the largest number in it.

    Raises:
        RefusalError: if it is no tuple of such numbers.
    """
    sizes = isinstance(value, tuple) and all(is_count(part, most) for part in value)
    expect(sizes and len(value) <= 16, "a shape of impossible sizes")
    return tuple(value)


def cells(shape: Sequence[int]) -> int:
    """Return how many numbers an array of a shape holds."""
    return math.prod(shape)
