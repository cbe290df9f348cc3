"""The vectors of a trained model for a database or an index of another system.

    items.parquet      item, title, vector
    users.parquet      user, vector
    seen.parquet       user, item: what users know
    items.npy, users.npy, seen.npy, ids.json
                       the same as NumPy tables; seen holds rows of users and items [E, 2]
    *.faiss            indices of faiss, whose numbers are the rows of items
    vectors.md, vectors.html, vectors.json
                       what was written, and the recall of the indices

A score is the inner product of a user's and an item's vector. The item's holds its weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import import_optional
from recbole_margo.graph.neighbor_search import NeighborSearch, import_faiss
from recbole_margo.report.document import Document, Paragraphs, Part, Section
from recbole_margo.report.files import json_text, write_document
from recbole_margo.report.table import Cell, Table
from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.vector_search import SearchQuality, measured
from recbole_margo.store.writing import new_folder

FORMATS = ("parquet", "npy")
# Rows of a table that are in memory at once.
ROWS = 2**16


def write_vectors(
    bundle: Bundle, folder: Path, form: str, searches: Sequence[NeighborSearch] = (), n: int = 20
) -> Document:
    """Write vectors, and indices of those of the items with their recall on real users.

    Args:
        folder: a path at which there is nothing; it appears when everything is written.
        form: one of `FORMATS`.
        searches: methods of faiss, an index each.
        n: length of the lists that are compared.

    Raises:
        DataError: there is something already, it cannot be written, or pyarrow is not installed.
        ConfigError: faiss is not installed.
    """
    with new_folder(folder) as temporary:
        (_write_parquet if form == "parquet" else _write_npy)(bundle, temporary)
        qualities = []
        for search in searches:
            index, quality = measured(bundle, search, n)
            path = temporary / f"{search.method.removeprefix('faiss-')}.faiss"
            import_faiss().write_index(index, str(path))
            qualities.append(replace(quality, bytes=path.stat().st_size))
        document = vectors_document(bundle, qualities)
        facts = {**asdict(bundle.facts), "indices": [asdict(quality) for quality in qualities]}
        write_document(temporary, "vectors", document, {"vectors.json": json_text(facts)})
    return document


def vectors_document(bundle: Bundle, qualities: Sequence[SearchQuality]) -> Document:
    """Return the report on vectors and indices."""
    facts = bundle.facts
    said = "A score is the inner product of a user's and an item's vector; the larger, the better."
    if facts.modalities:
        said += " The item's vector holds the weights of its modalities."
    parts: list[Part] = [Paragraphs((said,))]
    if qualities:
        parts.append(_table(qualities))
    return Document(
        f"Vectors of {facts.model} on {facts.dataset}",
        (
            ("users", f"{len(bundle.user_ids):,}"),
            ("items", f"{len(bundle.item_ids):,}"),
            ("columns", ", ".join(f"{b.name} {b.start} to {b.stop - 1}" for b in facts.blocks)),
            ("seed", str(facts.seed)),
        ),
        (Section(None, tuple(parts)),),
    )


def _table(qualities: Sequence[SearchQuality]) -> Table:
    n, users = qualities[0].n, qualities[0].users
    rows = [
        (
            one.search,
            f"{one.recall:.4f}",
            f"{one.milliseconds:.3f}",
            f"{one.exact_milliseconds:.3f}",
            f"{one.build_seconds:.2f}",
            f"{one.bytes / 2**20:.1f}",
        )
        for one in qualities
    ]
    return Table(
        f"Indices against exact lists of {n} items for {users:,} users",
        ("index", f"recall@{n}", "ms a list", "ms exact", "built in s", "MiB"),
        tuple(tuple(map(Cell, row)) for row in rows),
        (
            "What a user knows is left out of both. Recall is the mean share of the exact list "
            "that is found. Lists are asked for many users at once.",
        ),
    )


def _write_npy(bundle: Bundle, folder: Path) -> None:
    np.save(folder / "items.npy", bundle.items, allow_pickle=False)
    np.save(folder / "users.npy", bundle.users, allow_pickle=False)
    np.save(folder / "seen.npy", _seen_pairs(bundle), allow_pickle=False)
    ids = {"users": bundle.user_ids, "items": bundle.item_ids, "titles": bundle.titles}
    (folder / "ids.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")


def _write_parquet(bundle: Bundle, folder: Path) -> None:
    arrow: Any = import_optional("pyarrow", "pyarrow", "writing parquet", "index")
    import_optional("pyarrow.parquet", "pyarrow", "writing parquet", "index")
    vector = arrow.list_(arrow.float32(), bundle.items.shape[1])

    def vectors(table: NDArray[np.float32], rows: slice) -> Any:
        values = arrow.array(np.ascontiguousarray(table[rows]).reshape(-1))
        return arrow.FixedSizeListArray.from_arrays(values, type=vector)

    def write(name: str, count: int, fields: dict[str, Any], columns: Any) -> None:
        schema = arrow.schema(list(fields.items()))
        with arrow.parquet.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for rows in _blocks(count):
                writer.write_table(arrow.Table.from_arrays(columns(rows), schema=schema))

    text = arrow.string()
    write(
        "items",
        len(bundle.item_ids),
        {"item": text, "title": text, "vector": vector},
        lambda rows: [
            arrow.array(bundle.item_ids[rows], text),
            arrow.array(bundle.titles[rows], text),
            vectors(bundle.items, rows),
        ],
    )
    write(
        "users",
        len(bundle.user_ids),
        {"user": text, "vector": vector},
        lambda rows: [arrow.array(bundle.user_ids[rows], text), vectors(bundle.users, rows)],
    )
    pairs = _seen_pairs(bundle)
    write(
        "seen",
        len(pairs),
        {"user": text, "item": text},
        lambda rows: [
            arrow.array([ids[row] for row in column], text)
            for ids, column in zip(
                (bundle.user_ids, bundle.item_ids), pairs[rows].T.tolist(), strict=True
            )
        ],
    )


def _seen_pairs(bundle: Bundle) -> NDArray[np.int32]:
    """Return rows of users and of the items that they know [E, 2]."""
    users = np.repeat(np.arange(len(bundle.user_ids), dtype=np.int32), np.diff(bundle.seen_starts))
    return np.stack([users, bundle.seen_items], axis=1)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(first, first + ROWS) for first in range(0, count, ROWS))
