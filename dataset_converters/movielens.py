"""MovieLens in all its layouts: 100k, 1M, 10M, and the csv files since 20M."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import pandas as pd

from dataset_converters.interaction_converter import InteractionConverter
from dataset_converters.interactions import Columns, RawInteractions, read_interactions
from dataset_converters.item_inputs import ItemInputs, NamesByItem
from recbole_margo.command_line import group, option
from recbole_margo.errors import DataError
from recbole_margo.store.tables.columns import read_item_texts
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
    """The meaning of the names of posters.

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

        Returns:
            movieId -> names, in the order of `names`; and notes on how they were understood.
        """
        if not self.links.is_file():
            return self._without_links(names)
        movies_by, notes = _movies_by_id(self.links)
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
        by_chance = f" (by chance also {also})" if also else ""
        return found, [f"{note}{by_chance}{guessed}", *notes]

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


def _movies_by_id(links: Path) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Return kind -> id -> movieIds (a few movies share a page at TMDB or IMDb); and notes."""
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
    return found, table.notes()


def _plain(name: str, kind: str) -> str:
    """Return an id as it is compared: tt0114709, 0114709 and 114709 are one id of IMDb."""
    return name.removeprefix("tt").lstrip("0") if kind == "imdb" else name


FETCH_AGAIN = "Fetch it again: https://grouplens.org/datasets/movielens/"
# The columns of flags in u.item (README of ml-100k), after one that says that none is known.
GENRES = (
    "Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|"
    "Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
NO_GENRES = "(no genres listed)"


@dataclass(frozen=True)
class _Layout:
    """The files of one layout and the columns that matter, by name or by position from 1."""

    ratings: str
    movies: str
    tags: str | None
    separator: str
    header: bool
    rating_columns: tuple[str, str, str, str]
    movie_columns: tuple[str, ...]
    tag_columns: tuple[str, str]
    movie_separator: str


BY_POSITION = ("1", "2", "3", "4")
BY_NAME = ("userId", "movieId", "rating", "timestamp")
FLAGS = tuple(str(position) for position in range(7, 25))
LAYOUTS = (
    _Layout("u.data", "u.item", None, "\t", False, BY_POSITION, ("1", "2", *FLAGS), ("", ""), "|"),
    _Layout(
        "ratings.dat",
        "movies.dat",
        "tags.dat",
        "::",
        False,
        BY_POSITION,
        ("1", "2", "3"),
        ("2", "3"),
        "::",
    ),
    _Layout(
        "ratings.csv",
        "movies.csv",
        "tags.csv",
        ",",
        True,
        BY_NAME,
        ("movieId", "title", "genres"),
        ("movieId", "tag"),
        ",",
    ),
)


@dataclass
class MovieLensConverter(InteractionConverter):
    """Converts MovieLens; texts are titles, genres and, where there are some, tags."""

    command = "movielens"
    summary = "MovieLens 100k, 1M, 10M, 20M, 25M, 32M, latest: titles, genres, tags, posters"

    inputs: ItemInputs = group(ItemInputs(), "items", images="--posters")
    poster_ids: str | None = option(
        "what the posters are named by; auto takes the column of links.csv that explains the "
        "names, and says which (default: auto)",
        None,
        choices=POSTER_IDS,
    )

    def __post_init__(self) -> None:
        """Recognise the layout."""
        super().__post_init__()
        if self.poster_ids is not None and self.poster_ids not in POSTER_IDS:
            raise DataError(
                f"--poster_ids: expected one of {', '.join(POSTER_IDS)}, found {self.poster_ids!r}."
            )
        if self.poster_ids and self.inputs.images is None:
            raise DataError("--poster_ids: expected --posters DIR with it, found none.")
        layouts = [layout for layout in LAYOUTS if (self.source / layout.ratings).is_file()]
        if not layouts:
            raise DataError(
                f"{self.source}: expected one of {', '.join(one.ratings for one in LAYOUTS)}, "
                f"found none. Give the unpacked folder. {FETCH_AGAIN}"
            )
        self._layout = layouts[0]
        if not (self.source / self._layout.movies).is_file():
            raise DataError(
                f"{self.source}: expected {self._layout.movies} beside {self._layout.ratings}, "
                f"found none. {FETCH_AGAIN}"
            )

    def read_interactions(self) -> RawInteractions:
        """Read the ratings."""
        layout = self._layout
        path = self.source / layout.ratings
        table = DelimitedTable(path, layout.separator, header=layout.header)
        table.check(layout.rating_columns, FETCH_AGAIN)
        return read_interactions(table, Columns(*layout.rating_columns))

    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Read titles, genres and tags."""
        layout = self._layout
        path = self.source / layout.movies
        table = DelimitedTable(
            path,
            layout.movie_separator,
            _encoding_of(path),
            layout.header,
            quotes=layout.header,
        )
        table.check(layout.movie_columns, FETCH_AGAIN)
        movie, title, *genres = layout.movie_columns
        texts, notes = read_item_texts(table, movie, [title, *genres], items)
        columns = {"title": texts[title], "genres": _genres(texts[genres])}
        if layout.tags is not None and (self.source / layout.tags).is_file():
            tags, more_notes = self._tags(layout)
            columns["tags"] = tags.reindex(texts.index, fill_value="")
            notes += more_notes
        return pd.DataFrame(columns), notes

    def names_by_item(self) -> NamesByItem:
        """Return what tells movies by the names of their posters."""
        return PosterIds(self.poster_ids or "auto", self.source / LINKS).names_by_movie

    def _tags(self, layout: _Layout) -> tuple[pd.Series, list[str]]:
        """Return the distinct tags of every movie, the most given first; and notes."""
        path = self.source / str(layout.tags)
        table = DelimitedTable(path, layout.separator, _encoding_of(path), layout.header)
        table.check(layout.tag_columns, FETCH_AGAIN)
        movie, tag = layout.tag_columns
        given = pd.concat(table.read(layout.tag_columns, "reading tags"))
        given[tag] = given[tag].str.strip().str.lower()
        counts = given.value_counts([movie, tag]).reset_index()
        ranked = counts.sort_values([movie, "count", tag], ascending=[True, False, True])
        joined: pd.Series = ranked.groupby(movie)[tag].agg(" ".join)
        return joined, table.notes()


def _genres(cells: pd.DataFrame) -> pd.Series:
    """Join genres, from one cell `Comedy|Drama` or from a column of flags a genre."""
    if cells.shape[1] == 1:
        return cells.iloc[:, 0].replace(NO_GENRES, "").str.replace("|", " ")
    names_of_flags = GENRES.split("|")
    flags = (cells == "1").to_numpy()
    joined = [" ".join(compress(names_of_flags, row)) for row in flags]
    return pd.Series(joined, index=cells.index)


def _encoding_of(path: Path) -> str:
    """Return utf-8, or latin-1 for the older files that are not."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"
