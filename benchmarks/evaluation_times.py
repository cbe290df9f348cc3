"""The topic `evaluate`: how long the full ranking of all users takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.contenders import NAIVE, RECBOLE, RecBoleEvaluation
from benchmarks.options import Options
from benchmarks.repeated_timing import in_turn, summary, with_ratios
from benchmarks.shown import cells, duration, ratio, spread
from benchmarks.training_times import contenders
from benchmarks.workload import Workload
from recbole_margo.report.document import Table

PART = "test"


def measure(workload: Workload, options: Options) -> dict[str, Any]:
    """Time the evaluation of a model trained for a few steps.

    Args:
        workload: the data.
        options: how often.

    Returns:
        Summaries by contender, the metrics of each, and the largest difference of any metric from
        RecBole's.
    """
    found: dict[str, Any] = dict(contenders(workload, workload.last_stage()))
    ours = next(iter(found.values()))
    ours.train_steps(options.steps)  # scores that are worth ranking
    naive = found.pop(NAIVE)
    naive.take_parameters(ours)
    found |= {RECBOLE: RecBoleEvaluation(ours), NAIVE: naive}
    for name in found:
        found[name].evaluate()  # prepares what is kept from one evaluation to the next
    runs = in_turn(
        "evaluation", {name: each.evaluate for name, each in found.items()}, options.repeats
    )
    metrics = {name: results[0][1] for name, results in runs.items()}
    exact = [name for name in found if not getattr(found[name], "approximation", None)]
    return {
        "users": len(ours.loaders[2].uid_list),
        "contenders": {
            name: summary([seconds for seconds, _ in results]) for name, results in runs.items()
        },
        "metrics": metrics,
        "differences": {
            name: max(
                abs(value - metrics[RECBOLE][metric]) for metric, value in metrics[name].items()
            )
            for name in exact
        },
    }


def table(result: Mapping[str, Any]) -> Table:
    """Return the evaluations, a row each."""
    rows = []
    for name, entry, faster in with_ratios(result["contenders"], NAIVE):
        difference = result["differences"].get(name)
        rows.append(
            cells(
                name,
                duration(entry["median"]),
                spread(entry),
                "another model" if difference is None else f"{difference:.1e}",
                ratio(faster),
            )
        )
    return Table(
        f"Full ranking of {result['users']:,} users",
        ("who", "evaluation", "least to largest", "metrics differ by", "times faster"),
        tuple(rows),
        (
            "With the forward pass that an evaluation after a training epoch needs. The largest "
            "absolute difference of any unrounded metric from RecBole's evaluation of the same "
            "model.",
        ),
    )
