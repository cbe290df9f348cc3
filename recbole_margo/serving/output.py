"""The files of `recommend` and `explain`: lists block by block, and scores as bar charts."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from recbole_margo.errors import ConfigError, import_optional
from recbole_margo.report.document import shorten
from recbole_margo.report.figures import COLORS, STYLE, new_figure, wrapped
from recbole_margo.report.rendering import harmless_cell
from recbole_margo.serving.bundle_files import open_bundle
from recbole_margo.serving.explanation import Explanation, Reason
from recbole_margo.serving.recommender import Recommendations, Recommender
from recbole_margo.store.writing import disk_errors, replacing

# Users whose lists are held at once.
USERS_AT_ONCE = 4096
COLUMNS = ("user", "rank", "item", "score", "title")
FORMATS, CHART_FORMATS = (".csv", ".jsonl", ".parquet"), (".png", ".svg")
# The most reasons that a chart shows.
REASONS = 8

Write = Callable[[Iterable[Recommendations]], None]
# `Recommender.recommend` with all arguments but the users.
Ask = Callable[[Recommender, Sequence[str]], list[Recommendations]]


def lists_by_block(
    recommender: Recommender,
    users: Sequence[str],
    ask: Ask,
    bundle: Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Iterator[list[Recommendations]]:
    """Yield the lists of users in their order, block by block.

    Args:
        bundle: the folder that the processes of a pool open.
        workers: processes, as of `Pool`.
        cluster: address of a Ray cluster whose machines have the bundle at the same path.

    Raises:
        ConfigError: there is no bundle for the processes, or their number makes no sense.
        UnknownIdError: a user or an item is not known.
    """
    starts = range(0, len(users), USERS_AT_ONCE)
    blocks = [users[start : start + USERS_AT_ONCE] for start in starts]
    if cluster is None and workers in (None, 1):
        for block in blocks:
            yield ask(recommender, block)
        return
    if bundle is None:
        raise ConfigError(
            "--workers and --cluster: expected --bundle, which every process opens, found --run: "
            "make a bundle first, `recbole-margo bundle --run RUN --output_dir DIR`"
        )
    # Needs torch, which serving does not.
    from recbole_margo.studies.runs.pool import Pool

    # Blocks that were finished before their turn.
    waiting: dict[int, list[Recommendations]] = {}
    turn = 0
    task = partial(_lists, bundle.resolve(), ask)
    for index, lists in Pool(workers, cluster).run(task, blocks):
        waiting[index] = lists
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1


def _lists(bundle: Path, ask: Ask, users: Sequence[str]) -> list[Recommendations]:
    return ask(_opened(bundle), users)


@lru_cache(maxsize=1)
def _opened(bundle: Path) -> Recommender:
    return Recommender(open_bundle(bundle))


def check_format(path: Path) -> None:
    """Raise a `ConfigError` unless the suffix of a path is one of `FORMATS`."""
    if path.suffix not in FORMATS:
        raise ConfigError(
            f"--output: expected a file whose name ends with {', '.join(FORMATS)}, found {path}"
        )


@contextmanager
def writing(path: Path) -> Iterator[Write]:
    """Yield what adds lists to a file, which appears when the block succeeds.

    Args:
        path: a `.csv` or `.parquet` with a row per recommended item, or a `.jsonl` with a line per
            user.

    Raises:
        ConfigError: its name ends otherwise.
        DataError: it cannot be written, or pyarrow is not there for parquet.
    """
    check_format(path)
    opened = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[path.suffix]
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, opened(temporary) as write:
            yield write


def rows(lists: Iterable[Recommendations]) -> Iterator[tuple[str, int, str, float, str]]:
    """Yield a row of `COLUMNS` per recommended item."""
    for one in lists:
        for rank, ranked in enumerate(one.items, start=1):
            yield one.user or "", rank, ranked.item, ranked.score, ranked.title


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda lists: writer.writerows(
            [harmless_cell(cell) for cell in row] for row in rows(lists)
        )


@contextmanager
def _json_lines(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(lists: Iterable[Recommendations]) -> None:
            for one in lists:
                items = [{"item": each.item, "score": each.score} for each in one.items]
                line = {"user": one.user, "popular": one.popular, "items": items}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

        yield write


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    arrow: Any = import_optional("pyarrow", "pyarrow", "writing parquet")
    parquet: Any = import_optional("pyarrow.parquet", "pyarrow", "writing parquet")
    kinds = (arrow.string(), arrow.int32(), arrow.string(), arrow.float32(), arrow.string())
    schema = arrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    with parquet.ParquetWriter(path, schema) as writer:

        def write(lists: Iterable[Recommendations]) -> None:
            columns = list(zip(*rows(lists), strict=True)) or [()] * len(COLUMNS)
            arrays = [arrow.array(c, kind) for c, kind in zip(columns, kinds, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))

        yield write


def check_chart(path: Path) -> None:
    """Raise a `ConfigError` unless the suffix of a path is one of `CHART_FORMATS`."""
    if path.suffix not in CHART_FORMATS:
        raise ConfigError(
            f"--output: expected a file whose name ends with {' or '.join(CHART_FORMATS)}, "
            f"found {path}"
        )


def write_chart(path: Path, explanations: Sequence[Explanation]) -> None:
    """Draw the contributions and largest reasons of scores as bars, written whole or not at all.

    Raises:
        ConfigError: the name of the file ends otherwise.
    """
    check_chart(path)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the text has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = _chart(explanations)
        with disk_errors(path), replacing(path) as temporary:
            figure.savefig(temporary, dpi=150, format=path.suffix[1:])


def _chart(explanations: Sequence[Explanation]) -> Figure:
    bars = [_bars(one) for one in explanations]
    figure = new_figure(0.9 + sum(0.6 + 0.26 * len(of_one) for of_one in bars))
    heights = [1.5 + len(of_one) for of_one in bars]
    panels = figure.subplots(len(bars), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, one, of_one in zip(panels, explanations, bars, strict=True):
        names, values, colors = zip(*of_one, strict=True)
        places = range(len(names))
        panel.barh(places, values, color=colors)
        panel.set_yticks(places, names)
        panel.invert_yaxis()
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_xlabel("part of the score")
        what = one.title or one.item
        panel.set_title(wrapped(f"{what} for {one.user}: {one.score:.3f}", 90, 2), loc="left")
    return figure


def _bars(one: Explanation) -> list[tuple[str, float, str]]:
    parts = [
        (f"{part.name}{' (doubtful)' * part.doubtful}", part.value, COLORS[0])
        for part in one.contributions
    ]
    reasons = [
        (wrapped(_shortened(reason).words(), 60, 2), reason.value, COLORS[1])
        for reason in one.reasons[:REASONS]
    ]
    return parts + reasons


def _shortened(reason: Reason) -> Reason:
    return replace(reason, title=shorten(reason.title, 28), item=shorten(reason.item, 16))
