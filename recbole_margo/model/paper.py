"""The paper that a model comes from, as data that tests can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A citation.

    Args:
        venue: conference, journal or archive.
    """

    title: str
    authors: str
    venue: str
    year: int
    link: str
