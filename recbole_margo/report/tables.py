"""Tables of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from recbole.evaluator.register import smaller_metrics
from tabulate import tabulate

MEBIBYTE = 2**20


def comparison_table(
    records: Sequence[Mapping[str, Any]], style: str = "github", bold: str = "**{}**"
) -> str:
    """Return one row per model: test metrics (best in bold), training time and peak memory.

    Args:
        records: result records, see `recbole_margo.run`; failed ones show their error.
        style: a table format of `tabulate`.
        bold: how the best value of a column is marked, with `{}` for the value.

    Returns:
        The table as text.
    """
    finished = [record for record in records if record["status"] == "finished"]
    metrics = list(finished[0]["test"]) if finished else []
    best = {
        metric: _best_of(metric)(record["test"][metric] for record in finished)
        for metric in metrics
    }

    def shown(record: Mapping[str, Any], metric: str) -> str:
        value = record["test"][metric]
        # Equal to the four decimals that are printed counts as equally good.
        text = f"{value:.4f}"
        return bold.format(text) if text == f"{best[metric]:.4f}" else text

    rows = [_row(record, metrics, shown) for record in records]
    headers = ["model", "status"]
    if finished:
        headers = ["model", *metrics, "best epochs", "seconds", "peak MiB"]
    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True)


def terminal_bold() -> str:
    """Return how standard output marks the best value, with `{}` for the value."""
    return "\033[1m{}\033[0m" if sys.stdout.isatty() else "**{}**"


def _best_of(metric: str) -> Callable[[Iterable[float]], float]:
    return min if metric.split("@")[0] in smaller_metrics else max


def _row(
    record: Mapping[str, Any],
    metrics: Sequence[str],
    shown: Callable[[Mapping[str, Any], str], str],
) -> list[str]:
    if record["status"] != "finished":
        return [record["model"], "failed"]
    epochs = " + ".join(str(stage["best_epoch"] + 1) for stage in record["stages"])
    peak = record["peak_memory_bytes"]
    return [
        record["model"],
        *(shown(record, metric) for metric in metrics),
        epochs,
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
            f"Dataset `{first['dataset']}`, seed {first['seed']}, test metrics, evaluation "
            f"protocol `{first['eval_protocol']}` ({PROTOCOL_MEANING[first['eval_protocol']]}).",
            f"Selected on validation by {first['valid_metric']}; the test set was scored once per "
            "trained model.",
            f"Split {', '.join(splits)}: {same}. Modalities: "
            f"{', '.join(first['modalities'] or []) or 'none'}.",
        ]
        lines += [line for record in finished for line in _stage_lines(record)]
    lines += [f"\n{line}" for line in failures(records)]
    return "\n".join(lines) + "\n"


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


PROTOCOL_MEANING = {
    "recbole": "training and validation items leave the candidates at test",
    "mmrec": "only training items leave the candidates at test, as in MMRec's published tables",
}


def _stage_lines(record: Mapping[str, Any]) -> list[str]:
    if len(record["stages"]) < 2:
        return []
    lines = ["", f"Stages of {record['model']}:", ""]
    metric = record["valid_metric"].lower()
    for stage in record["stages"]:
        valid, test = stage["valid"].get(metric), stage["test"].get(metric)
        lines.append(
            f"- {stage['name']}: best epoch {stage['best_epoch'] + 1} of {stage['epochs']}, "
            f"{metric} {valid:.4f} on validation, {test:.4f} on test"
        )
    if not record["last_stage_is_best"]:
        lines.append(
            "- No epoch of the last stage reached the first stage's best validation score."
        )
    return lines
