"""`recbole-margo cache`: the graphs that are kept from one training to the next."""

from __future__ import annotations

import time
from collections.abc import Sequence

from recbole_margo.command_line import command_parser
from recbole_margo.errors import ConfigError
from recbole_margo.report.document import Cell, Table, shorten, table_text

DESCRIPTION = """\
List the graphs of users and items that trainings keep, so that the next one on the same data need
not build them, or remove them all. What is removed is built anew when it is needed.
"""
MIB = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """List or remove the graphs and return 0.

    Raises:
        ConfigError: if there is no folder of graphs for this user.
    """
    from recbole_margo.graph.graph_cache import GraphCache

    parser = command_parser("cache", DESCRIPTION)
    parser.add_argument("--clear", action="store_true", help="remove all graphs")
    parser.add_argument(
        "--graph_cache",
        metavar="DIR",
        help="the folder (where trainings keep graphs unless `graph_cache` names another)",
    )
    options = parser.parse_args(arguments)
    cache = GraphCache.from_settings(options.graph_cache, None)
    if cache is None:
        raise ConfigError("there is no folder for this user: name one with --graph_cache=DIR")
    stored = cache.stored()
    size = sum(each.size for each in stored) / MIB
    if options.clear:
        gone = cache.clear()
        print(f"{cache.folder}: {len(gone)} graphs of {size:.1f} MiB are removed")
        return 0
    if stored:
        rows = tuple(
            (
                Cell(shorten(each.about(), 80)),
                Cell(f"{each.size / MIB:.1f}"),
                Cell(time.strftime("%Y-%m-%d %H:%M", time.localtime(each.used))),
                Cell(each.path.name),
            )
            for each in reversed(stored)
        )
        print(table_text(Table("", ("graph", "MiB", "used last", "file"), rows)))
    print(f"{cache.folder}: {len(stored)} graphs of {size:.1f} MiB")
    return 0
