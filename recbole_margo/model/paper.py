"""The paper that a model comes from, as data that tests can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A citation.

    Args:
        title: title of the paper.
        authors: authors as printed.
        venue: conference, journal or archive.
        year: year of publication.
        link: where it can be read.
    """

    title: str
    authors: str
    venue: str
    year: int
    link: str
