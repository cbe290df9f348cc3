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
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.command_line import command_parser
from recbole_margo.errors import ConfigError, import_optional
from recbole_margo.graph.neighbor_search import NeighborSearch, import_faiss
from recbole_margo.report.document import Cell, Document, Paragraphs, Part, Section, Table
from recbole_margo.report.rendering import json_text, terminal_text, write_document
from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.command import add_source, load_recommender
from recbole_margo.serving.vector_search import SearchQuality, measured
from recbole_margo.store.writing import new_folder

FORMATS = ("parquet", "npy")
# Rows of a table that are in memory at once.
ROWS = 2**16
# Rows of a table -> their values by column.
Columns = Callable[[slice], Sequence[Sequence[Any]]]
# Length of the lists that are compared.
COMPARED = 20
VECTORS = """\
Write the user and item vectors of a trained model, whose inner products are its scores, for a
database such as pgvector or an index of another system; and indices of faiss with their recall
against the exact lists of real users.

examples:
  recbole-margo vectors --bundle shop --output_dir vectors
  recbole-margo vectors --run RUN --output_dir vectors --format npy --index faiss --nprobe 32
"""
INDICES = {
    "faiss": ("faiss-flat", "faiss-hnsw", "faiss-ivf"),
    **{name: (name,) for name in ("faiss-flat", "faiss-hnsw", "faiss-ivf")},
}
OPTION_OF = {"faiss-hnsw": "ef_search", "faiss-ivf": "nprobe"}


def write_vectors(
    bundle: Bundle, folder: Path, form: str, searches: Sequence[NeighborSearch] = (), n: int = 20
) -> Document:
    """Write vectors into a new folder, and indices with their recall of exact lists of n items.

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
    text, vector = arrow.string(), arrow.list_(arrow.float32(), bundle.items.shape[1])
    pairs = _seen_pairs(bundle)

    def write(name: str, count: int, fields: Sequence[tuple[str, Any]], columns: Columns) -> None:
        with arrow.parquet.ParquetWriter(
            folder / f"{name}.parquet", arrow.schema(fields)
        ) as writer:
            for first in range(0, count, ROWS):
                values = columns(slice(first, first + ROWS))
                arrays = [
                    arrow.array(of, kind) for of, (_, kind) in zip(values, fields, strict=True)
                ]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=arrow.schema(fields)))

    write(
        "items",
        len(bundle.item_ids),
        [("item", text), ("title", text), ("vector", vector)],
        lambda rows: (bundle.item_ids[rows], bundle.titles[rows], list(bundle.items[rows])),
    )
    write(
        "users",
        len(bundle.user_ids),
        [("user", text), ("vector", vector)],
        lambda rows: (bundle.user_ids[rows], list(bundle.users[rows])),
    )
    write(
        "seen",
        len(pairs),
        [("user", text), ("item", text)],
        lambda rows: (
            [bundle.user_ids[user] for user in pairs[rows, 0]],
            [bundle.item_ids[item] for item in pairs[rows, 1]],
        ),
    )


def _seen_pairs(bundle: Bundle) -> NDArray[np.int32]:
    """Return rows of users and of the items that they know [E, 2]."""
    users = np.repeat(np.arange(len(bundle.user_ids), dtype=np.int32), np.diff(bundle.seen_starts))
    return np.stack([users, bundle.seen_items], axis=1)


def vectors(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo vectors` and return its exit status."""
    parser = command_parser("vectors", VECTORS)
    add_source(parser)
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, metavar="DIR", help="folder of what is written")
    add("--format", choices=FORMATS, default="parquet", help="of the vectors (parquet)")
    add("--index", choices=INDICES, help="an index; faiss makes all three, to be compared")
    add("--top", type=int, metavar="N", help="length of the lists that are compared (20)")
    add("--ef_search", type=int, metavar="N", help="of faiss-hnsw: candidates of a search (64)")
    add("--nprobe", type=int, metavar="N", help="of faiss-ivf: lists that are searched (16)")
    options = parser.parse_args(arguments)
    methods = INDICES[options.index] if options.index else ()
    for method, name in OPTION_OF.items():
        if vars(options)[name] is not None and method not in methods:
            raise ConfigError(f"--{name}: expected it with --index {method}, found no such")
    searches = []
    for method in methods:
        value = vars(options).get(OPTION_OF.get(method, ""))
        chosen = {} if value is None else {OPTION_OF[method]: value}
        searches.append(NeighborSearch.from_setting({"method": method, **chosen}, "--index"))
    if searches:
        import_faiss()
    recommender = load_recommender(options)
    top = options.top
    if top is None:
        top = min(COMPARED, len(recommender.bundle.item_ids))
    recommender.check_n(top)
    document = write_vectors(recommender.bundle, options.output_dir, options.format, searches, top)
    sys.stdout.write(f"{document.title}: {options.output_dir}\n")
    if searches:
        sys.stdout.write(f"\n{terminal_text(document.sections)}\n")
    return 0
