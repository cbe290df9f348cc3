"""The report of a sweep: tables, the figure, one page and the numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullLocator

from recbole_margo.report import (
    Bullets,
    Document,
    Figure,
    Paragraphs,
    Section,
    Table,
    cells,
    clean,
    csv_text,
    failure_section,
    json_text,
    shorten,
)
from recbole_margo.report.figures import COLORS, few_ticks, legend_below, panel_grid
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.runs.study import StudyReport
from recbole_margo.studies.sweep.result import Curve, Sweep
from recbole_margo.studies.wording import (
    axis_name,
    best_number,
    failed_line,
    how_evaluated,
    mean_cell,
    metric_name,
    over_seeds,
)

OWN_MARK = "(own)"
BOLD_NOTE = (
    "Best mean on validation in bold. Choose a value by validation: a value chosen by its test "
    "metric makes that metric too good."
)
CSV_COLUMNS = ("hyperparameter", "value", "own", "seed", "on", "metric", "number")
LINE, OWN = COLORS[0], COLORS[1]
ROW_HEIGHT = 2.2
LONGEST_TICK = 10
# How many fit side by side under a panel.
CHARACTERS = 26


def sweep_report(swept: Sweep) -> StudyReport:
    """Return everything that is shown of a sweep."""
    numbers = csv_text(CSV_COLUMNS, _csv_rows(swept))
    tables = tuple(_table(swept, curve) for curve in swept.hyperparameters)
    notes, failures = Paragraphs(_notes(swept)), _failures(swept)
    names = ", ".join(clean(curve.name) for curve in swept.hyperparameters)
    figure = Figure(
        "sweep",
        f"Curves of {metric_name(swept.selected_by)} on validation and of test metrics over "
        f"{names}. The tables below hold the numbers.",
        partial(sweep_figure, swept),
    )
    document = Document(
        f"{clean(swept.model)} over {names} on {clean(swept.dataset)}",
        tuple(_conditions(swept)),
        (
            *failure_section(failures),
            Section("Curves", (figure,)),
            Section("Numbers", (notes, *tables)),
        ),
    )
    return StudyReport(
        "sweep",
        document,
        {"sweep.json": json_text(as_plain(swept)), "sweep.csv": numbers},
        (Section(None, (*tables, notes, Bullets(failures))),),
        failed=bool(failures),
    )


def _conditions(swept: Sweep) -> Iterator[tuple[str, str]]:
    yield "Model", clean(swept.model)
    yield "Dataset", clean(swept.dataset)
    if swept.split:
        yield "Split", clean(swept.split)
    yield "Seeds", ", ".join(map(str, swept.seeds))
    yield from how_evaluated(swept.eval_protocol, swept.valid_metric, swept.parts, swept.settings)


def _table(swept: Sweep, curve: Curve) -> Table:
    selected = swept.selected_by
    columns = [("valid", selected), *(("test", metric) for metric in swept.metrics)]
    on_validation = (point.mean_and_deviation("valid", selected)[0] for point in curve.points)
    best = {"valid": best_number(on_validation, selected)}
    failed = any(point.errors for point in curve.points)
    rows = tuple(
        cells(
            clean(point.text) + (f" {OWN_MARK}" if point.own else ""),
            *(
                mean_cell(*point.mean_and_deviation(on, metric), best.get(on, ""))
                for on, metric in columns
            ),
            *([f"{len(point.seeds)} of {len(swept.seeds)}"] if failed else []),
        )
        for point in curve.points
    )
    names = [f"{'validation' if on == 'valid' else on} {metric_name(m)}" for on, m in columns]
    title = f"{curve.name}: {curve.meaning}" if curve.meaning else curve.name
    return Table(clean(title), (curve.name, *names, *(["seeds"] if failed else [])), rows)


def _notes(swept: Sweep) -> tuple[str, ...]:
    return (
        over_seeds(swept.seeds),
        f"{OWN_MARK}: the value that the model has in the other curves; it was trained once and "
        "belongs to all of them.",
        *swept.parts.absences(),
        *([BOLD_NOTE] if swept.parts.valid else []),
    )


def _failures(swept: Sweep) -> tuple[str, ...]:
    lines = (
        failed_line(point.label, seed, error)
        for curve in swept.hyperparameters
        for point in curve.points
        for seed, error in point.errors.items()
    )
    return tuple(dict.fromkeys(lines))


def _csv_rows(swept: Sweep) -> Iterator[list[object]]:
    """Yield one row per number, unrounded, of every curve, value and seed that finished."""
    for curve in swept.hyperparameters:
        for point in curve.points:
            about = [clean(curve.name), clean(point.text), str(point.own).lower()]
            measured = [("valid", str(swept.valid_metric).lower(), point.valid)]
            measured += [("test", clean(metric), point.test[metric]) for metric in point.test]
            for on, metric, values in measured:
                for seed, value in zip(point.seeds, values, strict=True):
                    if value is not None:
                        yield [*about, seed, on, metric, value]


def panel_metrics(swept: Sweep) -> list[tuple[str, str]]:
    """Return where it was measured and the metric of each column of panels.

    These are the metric of selection on validation and on test, and one more metric on test, with
    the same cut-off if there is one.
    """
    chosen = str(swept.valid_metric or "").lower()
    others = [metric for metric in swept.metrics if metric != chosen]
    cut_off = chosen.partition("@")[2]
    alike = [metric for metric in others if metric.partition("@")[2] == cut_off]
    tested = [chosen] if chosen in swept.metrics else []
    shown = [("test", metric) for metric in [*tested, *(alike or others)[:1]]]
    return [("valid", chosen), *shown] if swept.parts.valid else shown


def sweep_figure(swept: Sweep) -> Drawing | None:
    """Draw a row per hyper-parameter, a column per metric; None if no run finished."""
    curves = [
        curve for curve in swept.hyperparameters if any(point.seeds for point in curve.points)
    ]
    columns = panel_metrics(swept)
    if not curves or not columns:
        return None
    drawn = list(itertools.product(curves, columns))
    figure, panels = panel_grid(len(drawn), len(columns), ROW_HEIGHT, 0.9, sharey="col")
    for panel, (curve, (on, metric)) in zip(panels, drawn, strict=True):
        _draw_curve(panel, curve, on, metric)
    for panel, (on, metric) in zip(panels, columns, strict=False):
        panel.set_title(axis_name(metric, "validation" if on == "valid" else "test"))
    _legend(figure, panels[0], swept)
    figure.suptitle(f"{clean(swept.model)} on {clean(swept.dataset)}")
    return figure


def _draw_curve(panel: Axes, curve: Curve, on: str, metric: str) -> None:
    places = _places(curve)
    found = [point.mean_and_deviation(on, metric) for point in curve.points]
    there = [at for at, (mean, _) in enumerate(found) if mean is not None]
    across = [places[at] for at in there]
    means = np.array([found[at][0] for at in there])
    deviations = np.array([found[at][1] or 0.0 for at in there])
    style: dict[str, Any] = {"color": LINE, "markersize": 4.5, "linewidth": 1.5}
    if _has_names(curve):
        # There is nothing between two names that a line could show.
        bars = deviations if deviations.any() else None
        panel.errorbar(across, means, yerr=bars, fmt="o", capsize=3, **style)
    else:
        if deviations.any():
            ends = (means - deviations, means + deviations)
            panel.fill_between(across, *ends, color=LINE, alpha=0.2, linewidth=0)
        panel.plot(across, means, "-o", **style)
    for at, mean in zip(there, means, strict=True):
        if curve.points[at].own:
            panel.plot(places[at], mean, "D", color=OWN, markersize=7, zorder=3)
    _finish(panel, curve, places)


def _has_names(curve: Curve) -> bool:
    values = [point.value for point in curve.points]
    return any(
        isinstance(one, bool) or not isinstance(one, int | float | type(None)) for one in values
    )


def _places(curve: Curve) -> list[float]:
    if curve.scale == "ordinal":
        return [float(place) for place in range(len(curve.points))]
    return [float(point.value) for point in curve.points]


def _finish(panel: Axes, curve: Curve, places: Sequence[float]) -> None:
    """Scale and label the axes of a panel; its ticks are the values of the curve."""
    panel.set_xlabel(clean(curve.name) + (", log scale" if curve.scale == "log" else ""))
    panel.margins(x=0.08, y=0.1)
    panel.grid(axis="both")
    few_ticks(panel.yaxis)
    panel.tick_params(labelleft=True)
    if curve.scale == "log":
        panel.set_xscale("log")
    texts = [shorten(point.text, LONGEST_TICK) for point in curve.points]
    if curve.scale == "ordinal":
        kept = list(range(len(texts)))
    else:
        scale = math.log if curve.scale == "log" else float
        kept = _apart([scale(place) for place in places], texts)
    # Names would run into each other.
    crowded = curve.scale == "ordinal" and sum(map(len, texts)) > CHARACTERS
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if crowded else {}
    panel.set_xticks([places[at] for at in kept], [texts[at] for at in kept], **slanted)
    panel.xaxis.set_minor_locator(NullLocator())


def _apart(places: Sequence[float], texts: Sequence[str]) -> list[int]:
    """Return which ticks to label so that no two labels run into each other.

    Args:
        places: where they are on the axis, from left to right.
    """
    width = (places[-1] - places[0]) or 1.0
    kept = [0]
    for at in range(1, len(places)):
        gap = (places[at] - places[kept[-1]]) / width * CHARACTERS
        if gap > (len(texts[at]) + len(texts[kept[-1]])) / 2 + 1:
            kept.append(at)
    return kept


def _legend(figure: Drawing, panel: Axes, swept: Sweep) -> None:
    several = any(len(point.seeds) > 1 for curve in swept.hyperparameters for point in curve.points)
    count = len(swept.seeds)
    what = f"mean over {count} seeds" if several else "one seed, no band"
    panel.plot([], [], "-o", color=LINE, markersize=4.5, label=what)
    if several:
        panel.fill_between([], [], [], color=LINE, alpha=0.2, label="± standard deviation")
    panel.plot([], [], "D", color=OWN, markersize=7, label="own value, same run in every row")
    legend_below(figure, 3)
