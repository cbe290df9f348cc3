"""The report of a sweep: tables, the figure, one page and the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator, NullLocator

from recbole_margo.report import (
    NOTHING,
    Bullets,
    Cell,
    Document,
    Figure,
    Paragraphs,
    Section,
    Table,
    clean,
    csv_text,
    failure_section,
    json_text,
    shorten,
    terminal_text,
    write_document,
)
from recbole_margo.report.figures import COLORS, legend_below, new_figure
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.sweep.result import Curve, Sweep
from recbole_margo.studies.wording import (
    how_evaluated,
    is_smaller_better,
    metric_name,
    number,
    shown_settings,
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


def write_sweep_report(folder: Path, swept: Sweep) -> list[Path]:
    """Write everything that is shown of a sweep; what is there already is replaced."""
    texts = {"sweep.json": json_text(as_plain(swept)), "sweep.csv": sweep_csv(swept)}
    return write_document(folder, "sweep", sweep_document(swept), texts)


def sweep_text(swept: Sweep, bold: str = "**{}**") -> str:
    """Return the tables of a sweep for a terminal, with their legend and the failures.

    Args:
        bold: how the best of a column is marked, with `{}` for it.
    """
    notes, failures = Paragraphs(sweep_notes(swept)), Bullets(sweep_failures(swept))
    return terminal_text([Section(None, (*sweep_tables(swept), notes, failures))], bold=bold)


def sweep_document(swept: Sweep) -> Document:
    """Return the report of a sweep."""
    names = ", ".join(clean(curve.name) for curve in swept.hyperparameters)
    figure = Figure(
        "sweep",
        f"Curves of {metric_name(swept.selected_by)} on validation and of test metrics over "
        f"{names}. The tables below hold the numbers.",
        lambda: sweep_figure(swept),
    )
    return Document(
        f"{clean(swept.model)} over {names} on {clean(swept.dataset)}",
        tuple(_conditions(swept)),
        (
            *failure_section(sweep_failures(swept)),
            Section("Curves", (figure,)),
            Section("Numbers", (Paragraphs(sweep_notes(swept)), *sweep_tables(swept))),
        ),
    )


def _conditions(swept: Sweep) -> Iterator[tuple[str, str]]:
    yield "Model", clean(swept.model)
    yield "Dataset", clean(swept.dataset)
    if swept.split:
        yield "Split", clean(swept.split)
    yield "Seeds", ", ".join(map(str, swept.seeds))
    yield from how_evaluated(swept.eval_protocol, swept.valid_metric, swept.parts)
    shared = shown_settings(swept.settings)
    if shared:
        yield "Settings of all", shared


def sweep_tables(swept: Sweep) -> list[Table]:
    """Return one table per hyper-parameter: a row per value."""
    return [_table(swept, curve) for curve in swept.hyperparameters]


def _table(swept: Sweep, curve: Curve) -> Table:
    columns = [("valid", swept.selected_by), *(("test", metric) for metric in swept.metrics)]
    best = _best_on_validation(curve, swept.selected_by)
    partial = any(point.errors for point in curve.points)
    rows = []
    for point in curve.points:
        cells = [Cell(clean(point.text) + (f" {OWN_MARK}" if point.own else ""))]
        for on, metric in columns:
            mean, deviation = point.mean_and_deviation(on, metric)
            text = number(mean)
            text += "" if deviation is None else f" ± {number(deviation)}"
            cells.append(Cell(text, on == "valid" and mean is not None and number(mean) == best))
        if partial:
            cells.append(Cell(f"{len(point.seeds)} of {len(swept.seeds)}"))
        rows.append(tuple(cells))
    names = [f"{'validation' if on == 'valid' else on} {metric_name(m)}" for on, m in columns]
    title = f"{curve.name}: {curve.meaning}" if curve.meaning else curve.name
    return Table(clean(title), (curve.name, *names, *(["seeds"] if partial else [])), tuple(rows))


def _best_on_validation(curve: Curve, metric: str) -> str:
    means = [point.mean_and_deviation("valid", metric)[0] for point in curve.points]
    there = [mean for mean in means if mean is not None and math.isfinite(mean)]
    if not there:
        return NOTHING
    return number(min(there) if is_smaller_better(metric) else max(there))


def sweep_notes(swept: Sweep) -> tuple[str, ...]:
    """Return how to read the tables."""
    seeds = ", ".join(map(str, swept.seeds))
    if len(swept.seeds) == 1:
        over_seeds = f"One seed ({seeds}), so there is no deviation over seeds."
    else:
        over_seeds = f"Mean ± sample standard deviation over {len(swept.seeds)} seeds ({seeds})."
    return (
        over_seeds,
        f"{OWN_MARK}: the value that the model has in the other curves; it was trained once and "
        "belongs to all of them.",
        *swept.parts.absences(),
        *([BOLD_NOTE] if swept.parts.valid else []),
    )


def sweep_failures(swept: Sweep) -> tuple[str, ...]:
    """Return one line per run that failed, with the reason."""
    lines = (
        f"{clean(point.label)} failed, seed {seed}: {clean(error)}"
        for curve in swept.hyperparameters
        for point in curve.points
        for seed, error in point.errors.items()
    )
    return tuple(dict.fromkeys(lines))


def sweep_csv(swept: Sweep) -> str:
    """Return one row per number, unrounded, of every curve, value and seed that finished."""
    return csv_text(CSV_COLUMNS, _csv_rows(swept))


def _csv_rows(swept: Sweep) -> Iterator[list[Any]]:
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
    """Return what the columns of panels show: where it was measured, and the metric.

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
    """Draw a row per hyper-parameter, a column per metric; a column shares its vertical axis.

    Returns:
        The figure, None if no run finished or was evaluated.
    """
    curves = [
        curve for curve in swept.hyperparameters if any(point.seeds for point in curve.points)
    ]
    columns = panel_metrics(swept)
    if not curves or not columns:
        return None
    figure = new_figure(ROW_HEIGHT * len(curves) + 0.9)
    panels = figure.subplots(len(curves), len(columns), sharey="col", squeeze=False)
    for row, curve in zip(panels, curves, strict=True):
        for panel, (on, metric) in zip(row, columns, strict=True):
            _draw_curve(panel, curve, on, metric)
    for panel, (on, metric) in zip(panels[0], columns, strict=True):
        better = ", smaller is better" if is_smaller_better(metric) else ""
        where = "validation" if on == "valid" else "test"
        panel.set_title(f"{metric_name(metric)} on {where}{better}")
    _legend(figure, panels[0, 0], swept)
    figure.suptitle(f"{clean(swept.model)} on {clean(swept.dataset)}")
    return figure


def _draw_curve(panel: Axes, curve: Curve, on: str, metric: str) -> None:
    places = _places(curve)
    drawn = []
    for place, point in zip(places, curve.points, strict=True):
        mean, deviation = point.mean_and_deviation(on, metric)
        if mean is not None:
            drawn.append((place, mean, deviation or 0.0, point))
    across = [place for place, *_ in drawn]
    means = [mean for _, mean, *_ in drawn]
    deviations = [deviation for *_, deviation, _ in drawn]
    style: dict[str, Any] = {"color": LINE, "markersize": 4.5, "linewidth": 1.5}
    if _has_names(curve):
        # There is nothing between two names that a line could show.
        bars = deviations if any(deviations) else None
        panel.errorbar(across, means, yerr=bars, fmt="o", capsize=3, **style)
    else:
        if any(deviations):
            low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
            high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
            panel.fill_between(across, low, high, color=LINE, alpha=0.2, linewidth=0)
        panel.plot(across, means, "-o", **style)
    for place, mean, _, point in drawn:
        if point.own:
            panel.plot(place, mean, "D", color=OWN, markersize=7, zorder=3)
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
    panel.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
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
