"""Which of a movie's three ids, MovieLens', TMDB's or IMDb's, the names of its posters are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.tables.delimited import DelimitedTable

POSTER_IDS = ("auto", "movie", "tmdb", "imdb")
OPTION = "--poster_ids"
LINKS = "links.csv"
COLUMNS = {"movie": "movieId", "tmdb": "tmdbId", "imdb": "imdbId"}
# The second likeliest kind must leave so many times as many names unexplained, and this share.
CLEARLY_MORE = 4
CLEAR_SHARE = 0.05


@dataclass(frozen=True)
class PosterIds:
    """What the names of posters mean.

    Attributes:
        choice: one of `POSTER_IDS`; `auto` takes the kind that explains the names best.
        links: the file of ids, with the columns of `COLUMNS`; it need not exist for `movie`.
    """

    choice: str
    links: Path

    def names_by_movie(
        self, names: Sequence[str], folder: Path
    ) -> tuple[dict[str, list[str]], list[str]]:
        """Say which names belong to each movie.

        Args:
            names: of the files, without their suffix.
            folder: where they lie, for messages.

        Returns:
            movieId -> names, in the order of `names`; and notes on how they were understood.

        Raises:
            DataError: several kinds explain the names about equally well, none explains any, or
                a kind is asked for that only a file of links can explain.
        """
        if not self.links.is_file():
            return self._without_links(names)
        movies_by = _movies_by_id(self.links)
        counts = {
            kind: sum(_plain(name, kind) in known for name in names)
            for kind, known in movies_by.items()
        }
        kind = self._clearest(counts, len(names), folder) if self.choice == "auto" else self.choice
        if not counts[kind]:
            raise DataError(
                f"{folder}: expected images named by {COLUMNS[kind]} of {self.links}, found "
                f"{', '.join(map(repr, names[:3]))}, none of them there. Rename the images, or "
                f"choose another {OPTION}."
            )
        found: dict[str, list[str]] = {}
        for name in names:
            for movie in movies_by[kind].get(_plain(name, kind), ()):
                found.setdefault(movie, []).append(name)
        note = (
            f"{counts[kind]:,} of {len(names):,} names of posters are a {COLUMNS[kind]} of {LINKS}"
        )
        also = ", ".join(
            f"{counts[other]:,} a {COLUMNS[other]}"
            for other in COLUMNS
            if other != kind and counts[other]
        )
        guessed = f"; guessed {OPTION} {kind}" if self.choice == "auto" else ""
        return found, [f"{note}{f' (by chance also {also})' if also else ''}{guessed}"]

    def _without_links(self, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
        if self.choice in ("tmdb", "imdb"):
            raise DataError(
                f"{OPTION} {self.choice}: expected {self.links}, which says the movieId of every "
                f"{COLUMNS[self.choice]}, found none. Take it from the same archive as the ratings."
            )
        notes = []
        if self.choice == "auto":
            notes = [
                f"names of posters are taken for movieIds, unchecked: there is no {LINKS} to tell "
                f"them from tmdbIds and imdbIds; {OPTION} movie says that they are"
            ]
        return {name: [name] for name in names}, notes

    def _clearest(self, counts: Mapping[str, int], total: int, folder: Path) -> str:
        first, second, _ = sorted(counts, key=lambda kind: -counts[kind])
        missed, missed_by_second = total - counts[first], total - counts[second]
        if missed_by_second <= max(CLEARLY_MORE * missed, CLEAR_SHARE * total):
            covered = ", ".join(f"{count:,} a {COLUMNS[kind]}" for kind, count in counts.items())
            raise DataError(
                f"{folder}: expected images named by one kind of id, found that of {total:,} names "
                f"{covered} of {self.links}, which does not tell the kinds apart. Say which it is "
                f"with {OPTION} movie, tmdb or imdb."
            )
        return first


def _movies_by_id(links: Path) -> dict[str, dict[str, list[str]]]:
    """Return kind -> id -> movieIds; a few movies share their page at TMDB or IMDb."""
    table = DelimitedTable(links, ",", header=True)
    columns = list(COLUMNS.values())
    table.check(columns, "Fetch it again: https://grouplens.org/datasets/movielens/")
    rows = pd.concat(table.read(columns, "reading links"), ignore_index=True)
    movies = [movie.strip() for movie in rows["movieId"]]
    found: dict[str, dict[str, list[str]]] = {}
    for kind, column in COLUMNS.items():
        known: dict[str, list[str]] = {}
        for value, movie in zip(rows[column], movies, strict=True):
            # A data frame with gaps writes 862 as 862.0.
            plain = _plain(value.strip().removesuffix(".0"), kind)
            if plain:
                known.setdefault(plain, []).append(movie)
        found[kind] = known
    return found


def _plain(name: str, kind: str) -> str:
    """Return an id as it is compared: tt0114709, 0114709 and 114709 are one id of IMDb."""
    return name.removeprefix("tt").lstrip("0") if kind == "imdb" else name
