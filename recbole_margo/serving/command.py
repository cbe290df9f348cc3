"""`recbole-margo bundle`, `recommend` and `explain`: their options, and what they print."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from recbole_margo.command_line import comma_separated, command_parser
from recbole_margo.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    DataError,
    UnknownIdError,
    import_optional,
)
from recbole_margo.report.document import clean
from recbole_margo.serving.bundle_files import open_bundle, write_bundle
from recbole_margo.serving.output import (
    COLUMNS,
    Ask,
    check_chart,
    check_format,
    lists_by_block,
    rows,
    write_chart,
    writing,
)
from recbole_margo.serving.recommender import Recommendations, Recommender
from recbole_margo.store.reading import lines, reading, text_of
from recbole_margo.store.writing import check_new_folder

PRINTED_USERS, EXPLAINED = 20, 5
# Near ids that are named, and of how many they are looked for: of a million it takes seconds.
NEAREST, COMPARED_IDS = 3, 50_000
BUNDLE = """\
Write what serving needs of a trained model into a folder of plain tables: it opens with NumPy
alone, without the dataset, RecBole or torch.
"""
RECOMMEND = """\
Recommend items to users of a trained model, or to a new user who knows some items.

examples:
  recbole-margo recommend --run runs/20260101-120000-ml-100k/MARGO --users 196,186
  recbole-margo recommend --bundle shop --all --top 20 --output recommendations.parquet
  recbole-margo recommend --bundle shop --history 50,181 --deny 172
"""
SERVE = """\
Answer requests over HTTP from a bundle, and show its recommendations and catalogue as pages.
Listens on this machine alone unless --host names another address, which needs --token_file.
SIGHUP opens the bundle again, without losing a request. Needs pip install 'recbole-margo[serve]'.
"""
ADD_ITEMS = """\
Add items that the model was not trained with to a bundle, from their features alone, and write
the result as a new bundle. The features must be made as those of the trained items were:

  recbole-margo encode --dataset shop --modality text --source new.csv --output_dir arrivals
  recbole-margo add_items --bundle shop-1 --features arrivals --titles new.csv --output_dir shop-2

encodes with the dataset's own TF-IDF, histograms or model; features of another fit or encoder are
refused, those of which nothing says what made them are warned of.
"""
EXPLAIN = "Split the score of an item for a user into parts that add up to it."


def bundle(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo bundle` and return its exit status."""
    parser = command_parser("bundle", BUNDLE)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a finished run")
    parser.add_argument(
        "--output_dir", type=Path, required=True, metavar="DIR", help="folder of the bundle"
    )
    parser.add_argument(
        "--no_evidence",
        action="store_true",
        help="do not test which texts, images, ... belong to their items",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="PATH",
        help="for thumbnails, a folder of images named by item or a table with a column of their "
        "paths (those of the dataset's NAME.images.tsv that lie in its folder)",
    )
    options = parser.parse_args(arguments)
    # Before what takes long.
    check_new_folder(options.output_dir, BundleError)
    _check_run(options.run)
    # Imported here, because torch and RecBole take seconds that --help need not wait for.
    from recbole_margo.serving.bundling import bundle_of_run

    made = bundle_of_run(options.run, not options.no_evidence, options.images)
    write_bundle(made, options.output_dir)
    facts = made.facts
    pictured = 0 if made.thumbnails is None else np.count_nonzero(np.diff(made.thumbnails.starts))
    sys.stdout.write(
        f"Bundle of {facts.model} on {facts.dataset}, {len(made.user_ids):,} users and "
        f"{len(made.item_ids):,} items, {pictured:,} with a picture: {options.output_dir}\n"
    )
    return 0


def add_items(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo add_items` and return its exit status."""
    parser = command_parser("add_items", ADD_ITEMS)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="a bundle, which stays")
    add("--features", type=Path, required=True, metavar="DIR", help="NAME.features.json is in it")
    add("--output_dir", type=Path, required=True, metavar="DIR", help="folder of the new bundle")
    add("--titles", type=Path, metavar="FILE", help="a table of the new items with their titles")
    add("--encoding", help="of --titles, such as latin-1 (default: utf-8)")
    options = parser.parse_args(arguments)
    if options.encoding and not options.titles:
        raise ConfigError("--encoding: expected --titles FILE with it, found none")
    check_new_folder(options.output_dir, BundleError)
    recommender = Recommender(open_bundle(options.bundle))
    known = len(recommender.bundle.item_ids)
    titles = _titles_of(options.titles, options.encoding) if options.titles else None
    added = recommender.add_items(options.features, titles)
    added.save(options.output_dir)
    items = len(added.bundle.item_ids)
    sys.stdout.write(
        f"{items - known:,} new items beside {known:,} trained ones: {options.output_dir}\n"
    )
    return 0


def _titles_of(path: Path, encoding: str | None) -> dict[str, str]:
    """Read titles by item from a table whose columns say by their names what they are."""
    # Imported here, because pandas takes a second that most verbs need not wait for.
    from recbole_margo.store.tables import open_table
    from recbole_margo.store.tables.columns import (
        choose_item_columns,
        choose_title_column,
        texts_by_item,
    )

    table = open_table(path, encoding=encoding)
    title, _ = choose_title_column(table, None, "", None)
    if title is None:
        raise DataError(
            f"{path}: expected a column such as title, name or Bezeichnung, found "
            f"{', '.join(map(repr, table.columns))} ({table.description})"
        )
    item = choose_item_columns(table, None, [title], "item_id")[0]
    titles = texts_by_item(table, item, [title])
    return {token: " ".join(text.split()) for token, text in titles.items()}


def recommend(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo recommend` and return its exit status."""
    parser = command_parser("recommend", RECOMMEND)
    add_source(parser)
    add = parser.add_argument
    add("--users", type=comma_separated, help="raw ids, separated by commas")
    add("--users_file", type=Path, metavar="FILE", help="a raw id a line")
    add("--all", action="store_true", help="all users")
    add("--history", type=comma_separated, help="items of one new user, separated by commas")
    add("--top", type=int, default=10, metavar="N", help="length of the lists (10)")
    add("--output", type=Path, metavar="FILE", help="a .csv, .jsonl or .parquet file")
    add("--allow", type=comma_separated, help="the only items that may be recommended")
    add("--deny", type=comma_separated, help="items that may not be")
    add("--workers", type=int, metavar="N", help="processes that share the users (1)")
    add("--cluster", metavar="ADDRESS", help="a Ray cluster: auto, local or HOST:PORT")
    add("--with_seen", action="store_true", help="items that the user knows, too")
    add(
        "--on_unknown",
        choices=("error", "popular"),
        default="error",
        help="what users get whom the model does not know (error)",
    )
    options = parser.parse_args(arguments)
    named = [options.users, options.users_file, options.all, options.history]
    if sum(map(bool, named)) != 1:
        raise ConfigError("expected one of --users, --users_file, --all and --history")
    if options.output:
        check_format(options.output)
    users: Sequence[str] | None = options.users
    if options.users_file:
        users = _ids_of_file(options.users_file)
    recommender = load_recommender(options)
    ask = partial(
        Recommender.recommend,
        n=options.top,
        exclude_seen=not options.with_seen,
        allow=options.allow,
        deny=options.deny,
        on_unknown=options.on_unknown,
    )
    with _naming_the_nearest(recommender):
        if options.history:
            _print(ask(recommender, history=options.history))
        else:
            _answer(recommender, users or recommender.bundle.user_ids, ask, options)
    return 0


def _answer(
    recommender: Recommender, users: Sequence[str], ask: Ask, options: argparse.Namespace
) -> None:
    if options.output is None:
        if len(users) > PRINTED_USERS:
            raise ConfigError(f"more than {PRINTED_USERS} users: name a file with --output")
        _print(ask(recommender, users))
        return
    progress = tqdm(total=len(users), desc="Recommend", unit="user", disable=None)
    pool = (options.bundle, options.workers, options.cluster)
    with writing(options.output) as write, progress:
        for lists in lists_by_block(recommender, users, ask, *pool):
            write(lists)
            progress.update(len(lists))
    sys.stdout.write(f"Recommendations to {len(users):,} users: {options.output}\n")


def explain(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo explain` and return its exit status."""
    parser = command_parser("explain", EXPLAIN)
    add_source(parser)
    parser.add_argument("--user", required=True, help="raw id")
    parser.add_argument("--item", help="raw id (the five that are recommended first)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a .png or .svg bar chart")
    options = parser.parse_args(arguments)
    if options.output:
        check_chart(options.output)
    recommender = load_recommender(options)
    with _naming_the_nearest(recommender):
        items = [options.item] if options.item else _first_items(recommender, options.user)
        found = [recommender.explain(options.user, item) for item in items]
    if options.json:
        plain = [one.as_plain() for one in found]
        shown = plain[0] if options.item else plain
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    else:
        blocks = ["".join(f"{clean(line)}\n" for line in one.sentences()) for one in found]
        sys.stdout.write("\n".join(blocks))
    if options.output:
        write_chart(options.output, found)
    return 0


def _first_items(recommender: Recommender, user: str) -> list[str]:
    n = min(EXPLAINED, len(recommender.bundle.item_ids))
    return [ranked.item for ranked in recommender.recommend([user], n)[0].items]


def serve(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo serve` and return its exit status."""
    parser = command_parser("serve", SERVE)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="a bundle, or a link to one")
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    add("--port", type=int, default=8000, help="port to listen on, 0 for any (8000)")
    add("--token_file", type=Path, metavar="FILE", help="the token that requests must bring")
    add("--quiet", action="store_true", help="no access log")
    options = parser.parse_args(arguments)
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        import_optional(module, module, "serve", "serve")
    from recbole_margo.serving.service import ServiceAddress, serve

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    address = ServiceAddress(options.host, options.port)
    serve(options.bundle, address, options.token_file, not options.quiet)
    return 0


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a bundle or a run."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle")
    source.add_argument("--run", type=Path, metavar="DIR", help="a finished run of one model")


def load_recommender(options: argparse.Namespace) -> Recommender:
    """Return the recommender that the options of `add_source` name."""
    if options.bundle:
        return Recommender(open_bundle(options.bundle))
    _check_run(options.run)
    return Recommender.load(options.run)


def _check_run(run: Path) -> None:
    if run.is_dir():
        return
    siblings = run.parent.iterdir() if run.parent.is_dir() else ()
    beside = [path.name for path in siblings if path.is_dir()]
    near = nearest_ids(run.name, sorted(beside))
    hint = f"did you mean {run.parent / near[0]}? " if near else ""
    raise CheckpointError(
        f"--run: expected the folder of a finished run, found that {run} is none: {hint}`train` "
        "writes one for each model, OUTPUT_DIR/MODEL"
    )


def _ids_of_file(path: Path) -> list[str]:
    with reading(path) as stream:
        found = [text_of(line, path, n).rstrip("\r\n") for n, line in lines(stream, path)]
    if not found:
        raise DataError(f"{path}: expected a raw id a line, found none")
    return found


def _print(lists: Sequence[Recommendations]) -> None:
    shown = [
        [clean(user), rank, clean(item), f"{score:.4f}", clean(title)]
        for user, rank, item, score, title in rows(lists)
    ]
    sys.stdout.write(tabulate(shown, headers=COLUMNS, disable_numparse=True) + "\n")
    for one in lists:
        if one.popular:
            sys.stdout.write(f"{clean(one.user)} is not known: the most popular items.\n")
        elif not one.items:
            sys.stdout.write(f"{clean(one.user)}: no item is left to recommend.\n")


def nearest_ids(wanted: str, known: Sequence[str]) -> list[str]:
    """Return known ids that were probably meant: other zeros before it, other case, a slip."""
    plain = wanted.strip().lower().lstrip("0")
    same = [one for one in known if one.strip().lower().lstrip("0") == plain]
    # Of a million ids the nearest would take seconds.
    few = len(known) <= COMPARED_IDS
    close = difflib.get_close_matches(wanted, known, NEAREST) if few and not same else []
    return same[:NEAREST] or close


@contextmanager
def _naming_the_nearest(recommender: Recommender) -> Iterator[None]:
    """Add the nearest known ids to the message on an unknown one."""
    try:
        yield
    except UnknownIdError as error:
        bundle = recommender.bundle
        near = nearest_ids(
            error.unknown, bundle.user_ids if error.kind == "user" else bundle.item_ids
        )
        hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownIdError(f"{error}{hint}", error.kind, error.unknown) from error
