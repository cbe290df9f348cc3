"""Reading the summary of a comparison: what it means, before it is laid out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recbole.evaluator.register import metrics_dict, smaller_metrics

from recbole_margo.errors import RecBoleMargoError
from recbole_margo.report.evaluated_parts import NOT_TESTED, EvaluatedParts
from recbole_margo.report.table import NOTHING, clean
from recbole_margo.report.tables import PROTOCOL_MEANING

ALPHA = 0.05


def metric_name(key: str) -> str:
    """Return `Recall@20` for RecBole's `recall@20`.

    Args:
        key: a metric as RecBole's results name it.
    """
    name, at, k = clean(key).partition("@")
    known = metrics_dict.get(name.lower())
    return f"{known.__name__ if known else name}{at}{k}"


def is_smaller_better(key: str) -> bool:
    """Return whether smaller values of a metric are better.

    Args:
        key: a metric as RecBole's results name it.
    """
    return key.split("@")[0].lower() in smaller_metrics


def selection_metric(summary: Mapping[str, Any]) -> str | None:
    """Return the key of the metric of selection, or of the first one if it was not tested.

    Args:
        summary: the comparison.
    """
    chosen = str(summary["valid_metric"]).lower()
    metrics = list(summary["metrics"])
    return chosen if chosen in metrics else next(iter(metrics), None)


def finished_seeds(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> list[int]:
    """Return the seeds that an entry's lists of values belong to.

    Args:
        summary: the comparison.
        entry: one of its models.

    Raises:
        RecBoleMargoError: if there are more values than seeds that did not fail.
    """
    errors = entry.get("errors") or {}
    left = [seed for seed in summary["seeds"] if str(seed) not in errors]
    # Without a test part there are values of validation alone.
    lists = [*(entry.get("values") or {}).values(), entry.get("valid") or []]
    count = max(len(values) for values in lists)
    if count > len(left):
        raise RecBoleMargoError(
            f"the comparison names {len(left)} seeds of {entry['label']!r} that did not fail "
            f"({', '.join(map(str, left))}), but holds {count} values: give one value a seed"
        )
    return left[:count]


def has_results(entry: Mapping[str, Any]) -> bool:
    """Return whether a seed of a model has finished.

    Args:
        entry: a model of the comparison.
    """
    return any(value is not None for value in (entry.get("mean") or {}).values())


def number(value: float | None, form: str = ".4f") -> str:
    """Return a number as it is printed everywhere.

    Args:
        value: the number, None if there is none.
        form: its format.
    """
    return NOTHING if value is None else format(value, form)


def p_value(value: float | None) -> str:
    """Return a p-value; the smallest that four decimals hold is 0.0001.

    Args:
        value: the p-value, None if there is none.
    """
    return "< 0.0001" if value is not None and value < 0.0001 else number(value)


def is_significant(test: Mapping[str, Any]) -> bool:
    """Return whether the Holm-corrected Wilcoxon p-value of a test is below `ALPHA`.

    Args:
        test: a test of the comparison.
    """
    corrected = test["wilcoxon_holm"]
    return corrected is not None and bool(corrected < ALPHA)


def tested_users(summary: Mapping[str, Any]) -> str:
    """Return how many users the tests are paired over, empty without tests.

    Args:
        summary: the comparison.
    """
    tests = (summary.get("tests") or {}).values()
    counts = {int(test["users"]) for of_metric in tests for test in of_metric}
    return (
        " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)})) if counts else ""
    )


def slices_by_kind(
    summary: Mapping[str, Any],
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Return the slices by kind and metric, in their order.

    Args:
        summary: the comparison.
    """
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for part in summary.get("slices") or []:
        kinds.setdefault((clean(part["kind"]), part["metric"]), []).append(part)
    return kinds


def slice_size(part: Mapping[str, Any]) -> str:
    """Return of how many users and pairs a slice is.

    Args:
        part: a slice of the comparison.
    """
    users, pairs = int(part["users"]), int(part["pairs"])
    return f"{users:,} user{'s' * (users != 1)}, {pairs:,} pair{'s' * (pairs != 1)}"


def failure_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return one line per run that failed, with the reason.

    Args:
        summary: the comparison.
    """
    lines = []
    for entry in summary["models"]:
        label, errors = clean(entry["label"]), entry.get("errors") or {}
        lines += [f"{label} failed, seed {seed}: {clean(error)}" for seed, error in errors.items()]
        if entry["status"] == "failed" and not errors:
            lines.append(f"{label} failed.")
    return lines


def conditions(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return under which conditions the comparison came about, as names and values.

    Args:
        summary: the comparison.
    """
    found = [("Dataset", clean(summary["dataset"]))]
    splits = clean(summary["split"] or "").split()
    if splits:
        same = "the same for all runs" if len(splits) == 1 else "NOT the same for all runs"
        found.append(("Split", f"{', '.join(splits)}: {same}"))
    found.append(("Seeds", ", ".join(map(str, summary["seeds"]))))
    found += how_evaluated(summary)
    found.append(("Reference", clean(summary["reference"])))
    shared = shown_settings(summary.get("settings") or {})
    return [*found, ("Settings of all", shared)] if shared else found


def protocol_text(protocol: object) -> str:
    """Return an evaluation protocol with what it means.

    Args:
        protocol: its name.
    """
    name = clean(protocol)
    meaning = PROTOCOL_MEANING.get(name)
    return f"{name}: {meaning}" if meaning else name


def how_evaluated(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return protocol and metric of selection, as names and values; none without a finished run.

    Args:
        summary: of a comparison, or of another study over runs.
    """
    found = []
    # Without a finished run nothing tells the protocol and the metric.
    if summary["eval_protocol"] is not None:
        found.append(("Evaluation protocol", protocol_text(summary["eval_protocol"])))
    if summary["valid_metric"] is not None:
        parts = EvaluatedParts.of_summary(summary)
        chosen = parts.selection(metric_name(summary["valid_metric"]))
        found.append(("Selection", chosen))
        found += [] if parts.test else [("Test", NOT_TESTED)]
    return found


def shown_settings(settings: Mapping[str, Any]) -> str:
    """Return settings on one line, values as JSON.

    Args:
        settings: values by key.
    """
    return ", ".join(
        f"{clean(key)} = {clean(json.dumps(value, ensure_ascii=False, default=str))}"
        for key, value in settings.items()
    )
