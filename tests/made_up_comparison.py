"""Summaries of comparisons that nobody ran, for the tests of what is shown of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_margo.store.plain import from_plain
from recbole_margo.studies.comparison.result import Comparison

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
SLICES = (
    ("user activity", ("3-11", "12-27", "28-412"), " training interactions"),
    ("item popularity", ("0-5", "6-19", "20-310"), " training interactions"),
    ("missing modality", ("misses text", "misses audio", "has all"), ""),
)


def compared(summary: dict[str, Any]) -> Comparison:
    """Return the comparison whose plain form a summary is."""
    return from_plain(Comparison, summary)


def made_up_model(label: str, values: dict[str, list[float]], **changes: Any) -> dict[str, Any]:
    """Return a model of a summary, its mean and deviation computed from its values."""
    count = max((len(of_metric) for of_metric in values.values()), default=0)
    deviation = statistics.stdev if count > 1 else lambda _: None
    return {
        "label": label,
        "model": label,
        "settings": {},
        "status": "finished" if count else "failed",
        "errors": {},
        "values": values,
        "valid": next(iter(values.values()), []),
        "mean": {metric: statistics.mean(of_metric) for metric, of_metric in values.items()},
        "std": {metric: deviation(of_metric) for metric, of_metric in values.items()},
        "seconds": [61.25 + place for place in range(count)],
        "best_epochs": [f"{58 + place} + 33" for place in range(count)],
        "peak_memory_mib": 571.0 if count else None,
        **changes,
    }


def made_up_test(label: str, difference: float, holm: float, **changes: Any) -> dict[str, Any]:
    """Return a test of a model against the reference."""
    return {
        "label": label,
        "users": 1858,
        "difference": difference,
        "low": difference - 0.0061,
        "high": difference + 0.0059,
        "effect_size": difference * 5,
        "wilcoxon_p": holm / 2,
        "bootstrap_p": holm / 3,
        "wilcoxon_holm": holm,
        "bootstrap_holm": holm / 1.5,
        **changes,
    }


def made_up_summary(
    labels: Sequence[str] = ("MARGO", "DRAGON", "LightGCN"),
    seeds: Sequence[int] = (1, 2, 3),
    metrics: Sequence[str] = METRICS,
    **changes: Any,
) -> dict[str, Any]:
    """Return a summary in which each model is a little worse than the one before."""
    random = np.random.default_rng(7)
    models, tests = [], {}
    for place, label in enumerate(labels):
        values = {
            metric: (0.44 / (1 + index) - 0.009 * place + random.normal(0, 0.002, len(seeds)))
            for index, metric in enumerate(metrics)
        }
        models.append(made_up_model(label, {name: of.tolist() for name, of in values.items()}))
    for metric in metrics:
        tests[metric] = [
            made_up_test(label, -0.004 * place, 0.7 / 10**place)
            for place, label in enumerate(labels[1:], start=1)
        ]
    return {
        "dataset": "lfm2k",
        "eval_protocol": "mmrec",
        "split": "0f3a9c",
        "seeds": list(seeds),
        "valid_metric": "Recall@20",
        "absent_parts": [],
        "reference": labels[0],
        "settings": {},
        "metrics": list(metrics),
        "models": models,
        "tests": tests if len(labels) > 1 else {},
        "slices": made_up_slices(labels),
        **changes,
    }


def made_up_slices(labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return slices of three kinds."""
    slices = []
    for row, (kind, names, unit) in enumerate(SLICES):
        for place, name in enumerate(names):
            base = 0.21 + 0.08 * place + 0.01 * row
            slices.append(
                {
                    "kind": kind,
                    "name": f"{name}{unit}",
                    "metric": "recall@20",
                    "users": 930 + 40 * place,
                    "pairs": 2406 + row,
                    "values": {label: base - 0.004 * index for index, label in enumerate(labels)},
                }
            )
    return slices
