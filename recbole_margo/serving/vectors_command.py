"""`recbole-margo vectors`: its options, and what it prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_margo.command_line import command_parser
from recbole_margo.errors import ConfigError
from recbole_margo.graph.neighbor_search import NeighborSearch, import_faiss
from recbole_margo.report.rendering import terminal_text
from recbole_margo.serving.command import add_source, load_recommender
from recbole_margo.serving.vectors import FORMATS, write_vectors

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


def vectors(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo vectors` and return its exit status.

    Raises:
        RecBoleMargoError: the model cannot be read, or faiss is not installed.
        DataError: there is something at the output's place, or it cannot be written.
    """
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
    given = {"faiss-hnsw": ("ef_search",), "faiss-ivf": ("nprobe",)}
    methods = INDICES[options.index] if options.index else ()
    searches = []
    for method in methods:
        named = {name: vars(options)[name] for name in given.get(method, ())}
        chosen = {name: value for name, value in named.items() if value is not None}
        searches.append(NeighborSearch.from_setting({"method": method, **chosen}, "--index"))
    for method, names in given.items():
        for name in names:
            if vars(options)[name] is not None and method not in methods:
                raise ConfigError(f"--{name}: expected it with --index {method}, found no such")
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
