"""The table of `train`: one row per model, of one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from recbole_margo.report import NOTHING
from recbole_margo.studies.wording import (
    PART_NAMES,
    PROTOCOL_MEANING,
    EvaluatedParts,
    epoch_text,
    epochs_text,
    is_smaller_better,
)

MEBIBYTE = 2**20


def comparison_table(
    records: Sequence[Mapping[str, Any]], style: str = "github", bold: str = "**{}**"
) -> str:
    """Return one row per model: metrics (best in bold), training time and peak memory.

    The metrics are those of the test, of validation where there was nothing to test.

    Args:
        records: result records, see `recbole_margo.run`; failed ones show their error.
        style: a table format of `tabulate`.
        bold: how the best value of a column is marked, with `{}` for the value.

    Returns:
        The table as text.
    """
    finished = [record for record in records if record["status"] == "finished"]
    part = EvaluatedParts.of_records(finished).shown
    values = {id(record): record[part] if part else {} for record in finished}
    metrics = list(dict.fromkeys(metric for of_run in values.values() for metric in of_run))
    best = {
        metric: _best_of(metric)(of_run[metric] for of_run in values.values() if metric in of_run)
        for metric in metrics
    }

    def shown(record: Mapping[str, Any], metric: str) -> str:
        text = _decimals(values[id(record)].get(metric))
        # Equal to the four decimals that are printed counts as equally good.
        return bold.format(text) if text == _decimals(best[metric]) else text

    rows = [_row(record, metrics, shown) for record in records]
    headers = ["model", "status"]
    if finished:
        headers = ["model", *metrics, "best epochs", "seconds", "peak MiB"]
    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True)


def _decimals(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _best_of(metric: str) -> Callable[[Iterable[float]], float]:
    return min if is_smaller_better(metric) else max


def _row(
    record: Mapping[str, Any],
    metrics: Sequence[str],
    shown: Callable[[Mapping[str, Any], str], str],
) -> list[str]:
    if record["status"] != "finished":
        return [record["model"], "failed"]
    peak = record["peak_memory_bytes"]
    return [
        record["model"],
        *(shown(record, metric) for metric in metrics),
        epochs_text(record),
        f"{record['seconds']:.1f}",
        f"{max(peak.values()) / MEBIBYTE:.0f}",
    ]


def comparison_document(records: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown page with the table and under which conditions it came about.

    Args:
        records: result records of models on one dataset.
    """
    finished = [record for record in records if record["status"] == "finished"]
    lines = ["# Comparison", "", comparison_table(records), ""]
    if finished:
        first = finished[0]
        splits = sorted({record["split"] for record in finished})
        same = "all models share it" if len(splits) == 1 else "NOT the same for all models"
        lines += [
            f"Dataset `{first['dataset']}`, seed {first['seed']}, {shown_metrics(finished)}, "
            f"evaluation protocol `{first['eval_protocol']}` "
            f"({PROTOCOL_MEANING[first['eval_protocol']]}).",
            *_how_selected(finished),
            f"Split {', '.join(splits)}: {same}. Modalities: "
            f"{', '.join(first['modalities'] or []) or 'none'}.",
        ]
        lines += [line for record in finished for line in _stage_lines(record)]
    lines += [f"\n{line}" for line in failures(records)]
    return "\n".join(lines) + "\n"


def shown_metrics(records: Sequence[Mapping[str, Any]]) -> str:
    """Return which metrics `comparison_table` shows, in words.

    Args:
        records: result records of finished runs.
    """
    part = EvaluatedParts.of_records(records).shown
    return f"{PART_NAMES[part]} metrics" if part else "no metrics"


def _how_selected(records: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = EvaluatedParts.of_records(records)
    lines = parts.absences()
    if parts.valid:
        lines.append(f"Selected on validation by {records[0]['valid_metric']}.")
    if parts.test:
        lines.append("The test set was scored once per trained model.")
    return [" ".join(lines)]


def failures(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line per model that failed, with the reason.

    Args:
        records: result records.
    """
    return [
        f"{record['model']} failed: {record['error']}"
        for record in records
        if record["status"] != "finished"
    ]


def _stage_lines(record: Mapping[str, Any]) -> list[str]:
    if len(record["stages"]) < 2:
        return []
    lines = ["", f"Stages of {record['model']}:", ""]
    metric = record["valid_metric"].lower()
    for stage in record["stages"]:
        if stage["best_epoch"] >= 0:
            line = f"- {stage['name']}: best epoch {epoch_text(stage)} of {stage['epochs']}"
        else:
            line = f"- {stage['name']}: {stage['epochs']} epochs, not validated"
        measured = [
            f"{_decimals(stage[part][metric])} on {PART_NAMES[part]}"
            for part in PART_NAMES
            if metric in stage[part]
        ]
        lines.append(f"{line}, {metric} {', '.join(measured)}" if measured else line)
    if record["last_stage_is_best"] is False:
        lines.append(
            "- No epoch of the last stage reached the first stage's best validation score."
        )
    return lines
