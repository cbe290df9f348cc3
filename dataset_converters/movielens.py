"""MovieLens in all its layouts: 100k, 1M, 10M, and the csv files since 20M."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import pandas as pd

from dataset_converters.interaction_converter import InteractionConverter
from dataset_converters.interaction_table import read_interactions
from dataset_converters.item_images import NamesByItem
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.poster_ids import LINKS, POSTER_IDS, PosterIds
from dataset_converters.preparation import Preparation
from dataset_converters.raw_interactions import RawInteractions
from recbole_margo.errors import DataError
from recbole_margo.store.tables.columns import read_item_texts
from recbole_margo.store.tables.delimited import DelimitedTable

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


class MovieLensConverter(InteractionConverter):
    """Converts MovieLens; texts are titles, genres and, where there are some, tags."""

    command = "movielens"
    summary = "MovieLens 100k, 1M, 10M, 20M, 25M, 32M, latest: titles, genres, tags, posters"
    images_option = "--posters"

    def __init__(
        self,
        source: Path,
        name: str,
        preparation: Preparation | None = None,
        inputs: ItemInputs | None = None,
        poster_ids: str = "auto",
    ) -> None:
        """Recognise the layout.

        Args:
            source: the unpacked folder.
            name: name of the dataset to make.
            preparation: filters and split.
            inputs: posters, matrices and text features.
            poster_ids: what the posters are named by, one of `POSTER_IDS`.

        Raises:
            DataError: the folder has the ratings of no layout, or lacks the movies, or the kind of
                ids is none.
        """
        super().__init__(source, name, preparation, inputs)
        if poster_ids not in POSTER_IDS:
            raise DataError(
                f"--poster_ids: expected one of {', '.join(POSTER_IDS)}, found {poster_ids!r}."
            )
        self.poster_ids = PosterIds(poster_ids, source / LINKS)
        layouts = [layout for layout in LAYOUTS if (source / layout.ratings).is_file()]
        if not layouts:
            raise DataError(
                f"{source}: expected one of {', '.join(layout.ratings for layout in LAYOUTS)}, "
                f"found none. Give the unpacked folder. {FETCH_AGAIN}"
            )
        self._layout = layouts[0]
        if not (source / self._layout.movies).is_file():
            raise DataError(
                f"{source}: expected {self._layout.movies} beside {self._layout.ratings}, found "
                f"none. {FETCH_AGAIN}"
            )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add what the posters are named by."""
        super().add_arguments(parser)
        parser.add_argument(
            "--poster_ids",
            "--poster-ids",
            choices=POSTER_IDS,
            help="what the posters are named by; auto takes the column of links.csv that explains "
            "the names, and says which (default: auto)",
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> MovieLensConverter:
        """Return the converter that a parsed command line describes."""
        if arguments.poster_ids and arguments.images is None:
            raise DataError("--poster_ids: expected --posters DIR with it, found none.")
        return cls(
            arguments.source,
            arguments.name,
            Preparation.from_arguments(arguments),
            ItemInputs.from_arguments(arguments),
            arguments.poster_ids or "auto",
        )

    def read_interactions(self) -> RawInteractions:
        """Read the ratings."""
        layout = self._layout
        path = self.source / layout.ratings
        table = DelimitedTable(path, layout.separator, header=layout.header)
        table.check(layout.rating_columns, FETCH_AGAIN)
        fields = ("user_id", "item_id", "rating", "timestamp")
        return read_interactions(table, dict(zip(fields, layout.rating_columns, strict=True)))

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
            columns["tags"] = self._tags(layout).reindex(texts.index, fill_value="")
        return pd.DataFrame(columns), notes

    def names_by_item(self) -> NamesByItem:
        """Return what tells movies by the names of their posters."""
        return self.poster_ids.names_by_movie

    def _tags(self, layout: _Layout) -> pd.Series:
        """Return the distinct tags of every movie, those that most users gave it first."""
        path = self.source / str(layout.tags)
        table = DelimitedTable(path, layout.separator, _encoding_of(path), layout.header)
        table.check(layout.tag_columns, FETCH_AGAIN)
        movie, tag = layout.tag_columns
        given = pd.concat(table.read(layout.tag_columns, "reading tags"))
        given[tag] = given[tag].str.strip().str.lower()
        counts = given.value_counts([movie, tag]).reset_index()
        ranked = counts.sort_values([movie, "count", tag], ascending=[True, False, True])
        joined: pd.Series = ranked.groupby(movie)[tag].agg(" ".join)
        return joined


def _genres(cells: pd.DataFrame) -> pd.Series:
    """Join genres, from one cell `Comedy|Drama` or from a column of flags a genre."""
    if cells.shape[1] == 1:
        names: pd.Series = cells.iloc[:, 0].replace(NO_GENRES, "").str.replace("|", " ")
        return names
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
