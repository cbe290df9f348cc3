"""Amazon reviews, metadata and image features, editions of 2014, 2018 and 2023.

Tens of millions of reviews are read in bounded memory, and of metadata only what is wanted.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.interaction_converter import FILES, InteractionConverter, only_file
from dataset_converters.interactions import RawInteractions, is_numbered, to_numbers
from dataset_converters.preparation import Preparation
from recbole_margo.command_line import group, option
from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.reading import lines, reading
from recbole_margo.store.tables import open_table
from recbole_margo.store.tables.columns import check_overlap
from recbole_margo.store.tables.json_lines import array_records, is_array, parse_record
from recbole_margo.store.tables.table_file import (
    LARGEST_EXACT,
    MISSING,
    TableFile,
    TokenCodes,
    whole_characters,
)
from recbole_margo.store.writing import disk_errors

# The names of user, item, rating and time: first the edition of 2023, then those before.
NAMES = (
    ("user_id", "parent_asin", "rating", "timestamp"),
    ("reviewerID", "asin", "overall", "unixReviewTime"),
)
# What the first files of 2023 called the time.
EARLY_TIME = "sort_timestamp"
HEAD_ROWS = 1000
# Without space, and without half of a character.
ASCII_WORD, WORD = re.compile("[!-~]+"), re.compile("[^\\s\ud800-\udfff]+")


@dataclass
class ReviewInteractions(RawInteractions):
    """Interactions that keep the user of each row as bytes: a dictionary of users is too large.

    Attributes:
        user_ids: in pieces; the index of the table counts through them.
    """

    user_ids: list[NDArray[np.bytes_]] = field(default_factory=list)

    def with_tokens(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the table with tokens in the place of numbers."""
        rows = table.index.to_numpy()
        starts = np.cumsum([0, *map(len, self.user_ids)])
        pieces = np.searchsorted(starts, rows, side="right") - 1
        users = np.empty(len(table), dtype=object)
        for number, piece in enumerate(self.user_ids):
            here = pieces == number
            users[here] = piece[rows[here] - starts[number]].astype(str)
        items = np.array(self.items, dtype=object)[table["item_id"]]
        decoded: pd.DataFrame = table.assign(user_id=users, item_id=items)
        return decoded


def read_reviews(path: Path) -> ReviewInteractions:
    """Read reviews piece by piece.

    Args:
        path: JSON lines of any edition; or ratings as csv, with the header of 2023 or without one
            (2014: user, item, rating, time; 2018: item, user, rating, time). Plain or gzip.
    """
    with reading(path) as stream:
        has_header = NAMES[0][1].encode() in stream.read(64)
    table = open_table(path, ",", header=has_header)
    columns = _columns_of(table)
    codes, rows_read = TokenCodes(), 0
    user_ids: list[NDArray[np.bytes_]] = []
    hashes: list[NDArray[np.uint64]] = []
    pieces: list[pd.DataFrame] = []
    for chunk in table.read_strictly(columns, "reading reviews"):
        rows_read += len(chunk)
        for column in columns:
            table.check_scalars(chunk[column])
        rows = chunk[(chunk.notna() & ~chunk.isin(MISSING)).all(axis=1)]
        users, items, ratings, times = (rows[column] for column in columns)
        for ids, word, expected in (
            (users, ASCII_WORD, "a user, an id of ASCII characters without spaces"),
            (items, WORD, "an item, an id of whole characters without spaces"),
        ):
            wrong = [not isinstance(one, str) or word.fullmatch(one) is None for one in ids]
            table.refuse(wrong, ids, expected)
        seconds = to_numbers(times, table)
        exact = (seconds == np.floor(seconds)) & (seconds.abs() < LARGEST_EXACT)
        table.refuse(~exact.to_numpy(), times, "a time in whole seconds or milliseconds")
        user_ids.append(np.array(users.to_list(), dtype=np.bytes_))
        # Two users of one hash, about one pair in 10^12, would only be filtered as one.
        hashes.append(pd.util.hash_array(users.to_numpy(dtype=object)))
        of_rows = {
            "item_id": codes.encode(items),
            "rating": to_numbers(ratings, table).to_numpy(dtype=np.float32),
            "timestamp": seconds.to_numpy(dtype=np.int64),
        }
        pieces.append(pd.DataFrame(of_rows))
    together = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()
    if together.empty:
        raise DataError(f"{path}: expected interactions, found {rows_read} incomplete rows.")
    numbers = pd.factorize(np.concatenate(hashes))[0].astype(np.int32)
    together.insert(0, "user_id", numbers)
    dropped = rows_read - len(together)
    reasons = {"no user, item, rating or time": dropped} if dropped else {}
    return ReviewInteractions(together, [], codes.tokens, rows_read, reasons, user_ids=user_ids)


def _columns_of(table: TableFile) -> Sequence[str]:
    names = next((some for some in NAMES if some[1] in table.columns), None)
    if names is not None:
        is_early = names[3] not in table.columns and EARLY_TIME in table.columns
        return (*names[:3], EARLY_TIME) if is_early else names
    if not is_numbered(table) or len(table.columns) < len(NAMES[0]):
        raise DataError(
            f"{table.path}: expected the fields of a review, "
            f"{' or '.join(', '.join(some) for some in NAMES)}, or ratings as user, item, rating "
            f"and time separated by commas, found {', '.join(map(repr, table.columns))} "
            f"({table.description}). Is this the file of reviews?"
        )
    # The length of an ASIN tells items from users, whose order depends on the edition.
    users, items, ratings, times = table.columns[:4]
    head = next(iter(table.read([users, items], "looking at the beginning"))).head(HEAD_ROWS)
    lengths = [set(head[column].str.len()) for column in (users, items)]
    if lengths[0] == {ASIN_BYTES} != lengths[1]:
        users, items = items, users
    return users, items, ratings, times


ASIN_BYTES = 10
DIMENSION = 4096
RECORD_BYTES = ASIN_BYTES + 4 * DIMENSION


def extract_image_features(
    path: Path, items: Sequence[str], target: Path
) -> tuple[NDArray[Any], list[str]]:
    """Copy the vectors of wanted items from the file into a matrix on disk, record by record.

    Returns:
        The matrix [rows, 4096], memory-mapped, and the items of its rows, those with an image.
    """
    missing = set(items)
    found: list[str] = []
    others: list[str] = []
    needed = len(items) * 4 * DIMENSION
    with (
        reading(path, "reading image features") as stream,
        disk_errors(target, needed),
        target.open("wb") as matrix,
    ):
        number = 0
        while record := stream.read(RECORD_BYTES):
            number += 1
            asin = record[:ASIN_BYTES]
            if len(record) < RECORD_BYTES or not asin.isalnum():
                raise DataError(
                    f"{path}, record {number} (byte {(number - 1) * RECORD_BYTES:,}): expected "
                    f"{ASIN_BYTES} bytes of ASIN and {DIMENSION:,} float32, found {len(record):,} "
                    f"bytes that begin with {asin!r}. Fetch the file again."
                )
            item = asin.decode("ascii")
            if item in missing:
                missing.remove(item)
                matrix.write(record[ASIN_BYTES:])
                found.append(item)
            elif len(others) < 3:
                others.append(item)
    check_overlap([*found, *others], items, path)
    shape = (len(found), DIMENSION)
    if not found:
        return np.empty(shape, dtype="<f4"), found
    return np.memmap(target, dtype="<f4", mode="r", shape=shape), found


ASIN = re.compile(rb"""["'](?:parent_)?asin["']\s*:\s*["']([^"']*)["']""")
COLUMNS = ("title", "brand", "category", "description")
# Pages of 2018 whose title was not found hold the script of the page instead.
SCRIPT = "getTime"


def read_metadata(path: Path, items: Sequence[str]) -> pd.DataFrame:
    """Read the texts of products.

    Args:
        path: metadata of any edition: JSON lines, or the Python literals of 2014; plain or gzip.
        items: the products that are wanted; only their lines are parsed.

    Returns:
        The columns title, brand, category (its first path) and description by item, in the order
        of `items`, without items that have no text. Of several lines of a product the first counts.
    """
    wanted = {item.encode() for item in items}
    found: dict[str, tuple[str, ...]] = {}
    others: list[str] = []
    with reading(path, "reading metadata") as stream:
        if is_array(stream.peek(64)[:64]):  # type: ignore[attr-defined]
            records: Iterator[tuple[int, Any]] = array_records(stream, path)
        else:
            records = _wanted_lines(stream, path, wanted, others)
        for number, record in records:
            fields: dict[str, Any] = record if isinstance(record, dict) else {}
            item = fields.get("parent_asin", fields.get("asin"))
            if not isinstance(item, str):
                raise DataError(
                    f"{path}, line {number}: expected the field asin or parent_asin, found "
                    f"{', '.join(map(repr, fields)) or 'none'}. Is this the file of metadata?"
                )
            if item.encode(errors="replace") in wanted:
                found.setdefault(item, _texts(fields))
    check_overlap([*found, *others], items, path)
    known = [item for item in items if any(found.get(item, ()))]
    rows = [found[item] for item in known]
    texts: pd.DataFrame = pd.DataFrame(rows, index=known, columns=list(COLUMNS), dtype=object)
    return texts


def _wanted_lines(
    stream: BinaryIO, path: Path, wanted: set[bytes], others: list[str]
) -> Iterator[tuple[int, Any]]:
    """Yield the number and content of the lines that may speak of wanted items."""
    for number, line in lines(stream, path):
        named = ASIN.search(line)
        if named is not None and wanted.isdisjoint(ASIN.findall(line)):
            if len(others) < 3:
                others.append(named[1].decode(errors="replace"))
            continue
        yield number, parse_record(line, path, number)


def _texts(record: dict[str, Any]) -> tuple[str, ...]:
    title = _text(record.get("title"))
    # 2014: a list of paths; since 2018: one path.
    paths = record.get("categories") or record.get("category")
    if isinstance(paths, list) and paths and isinstance(paths[0], list):
        paths = paths[0]
    return (
        "" if SCRIPT in title else title,
        _text(record.get("brand") or record.get("store")),
        _text(paths),
        _text(record.get("description")),
    )


def _text(value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    words = " ".join(html.unescape(part) for part in parts if isinstance(part, str))
    return whole_characters(" ".join(words.split()))


SUFFIXES = (".json", ".jsonl", ".csv", ".json.gz", ".jsonl.gz", ".csv.gz")


@dataclass
class AmazonConverter(InteractionConverter):
    """Converts Amazon's files as the published data sets were made; items keep their ASINs.

    Every rating is a positive, exact repeats are dropped, then the 5-core, then the random split.
    """

    command = "amazon"
    summary = "Amazon reviews 2014, 2018, 2023, with metadata and the image features of 2014"

    preparation: Preparation = group(Preparation(repeats="all", k_core=5), "interactions")
    reviews: Path | None = option(
        "reviews (JSON lines) or ratings (csv), plain or gzip",
        None,
        metavar="FILE",
        in_group=FILES,
    )
    metadata: Path | None = option(
        "metadata of the products: meta_*", None, metavar="FILE", in_group=FILES
    )
    image_features: Path | None = option(
        "binary image features of 2014: image_features*", None, metavar="FILE", in_group=FILES
    )

    def __post_init__(self) -> None:
        """Find the files that are not named."""
        super().__post_init__()
        files = sorted(path for path in self.source.iterdir() if path.is_file())
        metadata = [path for path in files if path.name.startswith("meta_")]
        images = [path for path in files if path.name.startswith("image_features")]
        others = [path for path in files if path.name.endswith(SUFFIXES) and path not in metadata]
        self.reviews = self.reviews or only_file(
            others, "file of reviews or ratings", "--reviews", self.source
        )
        if self.reviews is None:
            raise DataError(
                f"{self.source}: expected a file of reviews or ratings ({', '.join(SUFFIXES)}), "
                "found none. Name it with --reviews."
            )
        self.metadata = self.metadata or only_file(
            metadata, "file of metadata", "--metadata", self.source
        )
        self.image_features = self.image_features or only_file(
            images, "file of image features", "--image_features", self.source
        )

    def read_interactions(self) -> RawInteractions:
        """Read the reviews."""
        return read_reviews(cast(Path, self.reviews))

    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Read the metadata, if there are any."""
        if self.metadata is None:
            return None, ["no metadata (meta_*) in the source, so no texts"]
        return read_metadata(self.metadata, items), []

    def write_own_features(self, folder: Path, items: Sequence[str]) -> list[str]:
        """Write the binary image features, if there are any, as the modality `image`."""
        if self.image_features is not None and "image" not in self.inputs.features:
            rows = folder / "image_rows"
            matrix, found = extract_image_features(self.image_features, items, rows)
            write_features(folder, self.name, "image", matrix, found, self.image_features.name)
            rows.unlink()
        return []
