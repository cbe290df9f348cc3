"""What a robustness study says, as tables that text, Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbole_margo.report.table import NOTHING, Cell, Table, clean, table_text
from recbole_margo.studies.wording import (
    EvaluatedParts,
    how_evaluated,
    is_smaller_better,
    metric_name,
    number,
    shown_settings,
)

KINDS = {
    "swap": "rows swapped among the chosen items",
    "noise": "noise added to the rows",
    "blank": "rows replaced by the mean row",
    "missing": "rows removed",
}
INTERVAL = "[{:.3f}, {:.3f}]"


def robustness_text(summary: Mapping[str, Any], bold: str = "**{}**") -> str:
    """Return the tables of a study for a terminal.

    Args:
        summary: the study, see docs/robustness.md.
        bold: how the best of a column is marked, with `{}` for it.
    """
    lines: list[str] = []
    tables = [*quality_tables(summary), *detection_tables(summary, last_step_only=True)]
    for table in tables:
        lines += [table.title, "", table_text(table, bold=bold), ""]
    lines += detection_notes(summary, short=True)
    return "\n".join([*lines, *failure_lines(summary)]).rstrip()


def robustness_conditions(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return under which conditions the study came about, as names and values.

    Args:
        summary: the study.
    """
    found = [("Dataset", clean(summary["dataset"])), ("Split", clean(summary["split"] or NOTHING))]
    kind = f"{summary['kind']}: {KINDS[summary['kind']]}"
    if summary["signal_to_noise"] is not None:
        kind += f", signal-to-noise ratio {summary['signal_to_noise']:g} dB"
    found.append(("Corruption", kind))
    found.append(("Corrupted", "; ".join(step_name(summary, step) for step in summary["steps"])))
    found.append(("Seeds", ", ".join(map(str, summary["seeds"]))))
    found += how_evaluated(
        summary["eval_protocol"], summary["valid_metric"], EvaluatedParts.of_summary(summary)
    )
    shared = shown_settings(summary["settings"])
    return [*found, ("Settings of all", shared)] if shared else found


def step_name(summary: Mapping[str, Any], step: float) -> str:
    """Return which share of the items is corrupted at a step, such as `text 30 %, audio 20 %`.

    Args:
        summary: the study.
        step: one of its steps.
    """
    if step == 0:
        return "clean"
    return shares_name(summary["shares"][summary["steps"].index(step)])


def shares_name(shares: Mapping[str, float]) -> str:
    """Return shares by modality in words.

    Args:
        shares: modality -> share.
    """
    return ", ".join(f"{clean(name)} {100 * share:g} %" for name, share in shares.items())


def shown_metrics(summary: Mapping[str, Any]) -> list[str]:
    """Return the metrics at the cut-off of the metric of selection, or all if there is none.

    Args:
        summary: the study.
    """
    metrics = list(summary["metrics"])
    _, at, cut_off = str(summary["valid_metric"]).partition("@")
    same = [metric for metric in metrics if metric.endswith(f"@{cut_off}")] if at else []
    return same or metrics


def quality_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return a table per metric: a row per model, a column per step.

    Args:
        summary: the study.
    """
    return [_quality_table(summary, metric) for metric in shown_metrics(summary)]


def _quality_table(summary: Mapping[str, Any], metric: str) -> Table:
    found = {(row["model"], row["step"]): row for row in summary["quality"]}
    pick = min if is_smaller_better(metric) else max
    best = {}
    for step in summary["steps"]:
        means = [found[model, step]["mean"].get(metric) for model in summary["models"]]
        there = [mean for mean in means if mean is not None]
        best[step] = number(pick(there)) if there else NOTHING
    rows = []
    for model in summary["models"]:
        cells = [Cell(clean(model))]
        for step in summary["steps"]:
            row = found[model, step]
            mean, deviation = number(row["mean"].get(metric)), row["std"].get(metric)
            text = mean if deviation is None else f"{mean} ± {number(deviation)}"
            failed = len(summary["seeds"]) - len(row["seeds"])
            if failed:
                text += f" ({len(row['seeds'])} of {len(summary['seeds'])} seeds)"
            cells.append(Cell(text, mean != NOTHING and mean == best[step]))
        clean_mean = found[model, 0.0]["mean"].get(metric)
        last = found[model, summary["steps"][-1]]["mean"].get(metric)
        change = None if not clean_mean or last is None else 100 * (last / clean_mean - 1)
        cells.append(Cell(number(change, "+.1f") + (" %" if change is not None else "")))
        rows.append(tuple(cells))
    headers = ["model", *(step_name(summary, step) for step in summary["steps"]), "change"]
    return Table(
        f"{metric_name(metric)} on test",
        tuple(headers),
        tuple(rows),
        tuple(_quality_notes(summary)),
    )


def _quality_notes(summary: Mapping[str, Any]) -> Iterator[str]:
    seeds = list(summary["seeds"])
    listed = ", ".join(map(str, seeds))
    if len(seeds) == 1:
        yield f"One seed ({listed}), so there is no deviation over seeds. Best value in bold."
    else:
        yield (
            f"Mean ± sample standard deviation over {len(seeds)} seeds ({listed}), each of which "
            "corrupts other items. Best mean in bold."
        )
    yield "change: of the last column's mean against clean."


def detection_tables(summary: Mapping[str, Any], last_step_only: bool = False) -> list[Table]:
    """Return a table per step and modality: a row per detector.

    Args:
        summary: the study.
        last_step_only: whether to leave out all steps but the last.
    """
    steps = [step for step in summary["steps"] if step > 0]
    tables = []
    for step in steps[-1:] if last_step_only else steps:
        share = summary["shares"][summary["steps"].index(step)]
        for modality in summary["share"]:
            rows = headline_rows(summary, step, modality)
            if rows:
                title = (
                    f"Detection of corrupted {clean(modality)} "
                    f"({summary['kind']}, {100 * share[modality]:g} % of the items)"
                )
                tables.append(_detection_table(summary, title, rows))
    return tables


def headline_rows(
    summary: Mapping[str, Any], step: float, modality: str
) -> list[Mapping[str, Any]]:
    """Return the rows of all detectors on all items, against all other items.

    Args:
        summary: the study.
        step: one of its steps.
        modality: one that was corrupted.
    """
    return detection_rows(summary, step, modality, "all", "all others")


def detection_rows(
    summary: Mapping[str, Any], step: float, modality: str, items: str, negatives: str
) -> list[Mapping[str, Any]]:
    """Return the rows of all detectors to one question.

    Args:
        summary: the study.
        step: one of its steps.
        modality: one that was corrupted.
        items: `all` or `popular`.
        negatives: `all others` or `nothing corrupted`.
    """
    wanted = (step, modality, items, negatives)
    return [
        row
        for row in summary["detection"]
        if (row["step"], row["modality"], row["items"], row["negatives"]) == wanted
    ]


def _detection_table(
    summary: Mapping[str, Any], title: str, rows: Sequence[Mapping[str, Any]]
) -> Table:
    step, modality = rows[0]["step"], rows[0]["modality"]
    others = {
        question: {
            row["detector"]: row["auc"]["mean"]
            for row in detection_rows(summary, step, modality, *question)
        }
        for question in (("popular", "all others"), ("all", "nothing corrupted"))
    }
    best = max(f"{row['auc']['mean']:.3f}" for row in rows)
    reference = summary["reference"]
    compared = any(row["auc_above_reference"] for row in rows)
    cells = []
    for row in rows:
        auc = row["auc"]
        shown = [
            Cell(clean(row["detector"])),
            Cell(_with_deviation(auc), f"{auc['mean']:.3f}" == best),
            Cell(INTERVAL.format(auc["low"], auc["high"])),
        ]
        if compared:
            above = row["auc_above_reference"]
            text = NOTHING
            if above:
                text = f"{above['mean']:+.3f} {INTERVAL.format(above['low'], above['high'])}"
            shown.append(Cell(text))
        shown += [Cell(number(of.get(row["detector"]), ".3f")) for of in others.values()]
        shown.append(Cell(_with_deviation(row["average_precision"])))
        shown.append(Cell(number(row["chance"], ".3f")))
        cells.append(tuple(shown))
    headers = [
        "detector",
        "ROC-AUC",
        "95 % interval",
        *([f"AUC minus {reference}'s"] if compared else []),
        "AUC, popular half",
        "AUC, vs. untouched",
        "average precision",
        "chance",
    ]
    return Table(title, tuple(headers), tuple(cells), (_counts(rows),))


def _with_deviation(estimate: Mapping[str, Any]) -> str:
    mean = f"{estimate['mean']:.3f}"
    deviation = estimate["deviation"]
    return mean if deviation is None else f"{mean} ± {deviation:.3f}"


def _counts(rows: Sequence[Mapping[str, Any]]) -> str:
    seeds = max((row["seeds"] for row in rows), key=len)
    counted = [f"{seed['positives']:,} of {seed['items']:,}" for seed in seeds]
    return f"Corrupted among the items asked about, by seed: {'; '.join(counted)}."


def detection_notes(summary: Mapping[str, Any], short: bool = False) -> list[str]:
    """Return how to read detection, sentences; or why there is none.

    Args:
        summary: the study.
        short: whether a reader has docs/robustness.md at hand.
    """
    if summary["why_no_detection"]:
        return [f"Detection: {summary['why_no_detection']}"]
    notes = [
        "Detection: the lower the weight of the modality, the more suspicious the item. ROC-AUC is "
        "the probability that a corrupted item has a lower weight than another; chance is 0.5 for "
        "it, and for the average precision what the last column says.",
        "neighbor agreement: no recommender, only how much an item's row is like those of the "
        "other items of its users. DRAGON: the mean of its users' weights.",
    ]
    if short:
        return notes
    return [
        *notes,
        "Asked about: items that have the modality and another one and at least one training "
        "interaction. Negatives: all of them that were not corrupted in this modality, among them "
        "those corrupted in another one, which pushes their weight up; 'vs. untouched' leaves "
        "these out. Popular half: more training interactions than the median item.",
        "Interval: stratified bootstrap over items, of the mean over seeds; of the difference, "
        "paired. It says nothing about other seeds: for them look at ±.",
    ]


def failure_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return one line per run that failed, with the reason.

    Args:
        summary: the study.
    """
    return [
        f"{clean(error['model'])} ({step_name(summary, error['step'])}) failed, seed "
        f"{error['seed']}: {clean(error['error'])}"
        for error in summary["errors"]
    ]
