"""The topics `step` and `epoch`: how long training takes, and with what."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.contenders import NAIVE, Naive, Ours
from benchmarks.options import Options
from benchmarks.repeated_timing import in_turn, summary, with_ratios
from benchmarks.shown import cells, duration, ratio, share, spread
from benchmarks.training_probe import PHASES
from benchmarks.workload import Workload
from recbole_margo.report.document import Table


def contenders(workload: Workload, settings: Mapping[str, Any]) -> dict[str, Ours | Naive]:
    """Return what is measured in one stage, by name: this project's first, the naive one last.

    Args:
        workload: the data.
        settings: those of the stage.
    """
    exact = Ours(workload, settings)
    faster = [Ours(workload, settings, name) for name in workload.approximations()]
    found: dict[str, Ours | Naive] = {ours.name: ours for ours in (exact, *faster)}
    return {**found, NAIVE: Naive.like(exact)}


def measure_steps(workload: Workload, options: Options) -> dict[str, Any]:
    """Time the phases of single training steps, and show that all compute the same loss.

    Args:
        workload: the data.
        options: how often.

    Returns:
        By stage and contender, a summary of the seconds of each phase and of the whole step, and
        the relative difference of the naive loss.
    """
    stages, until = {}, options.until()
    for stage, settings in workload.stages().items():
        found = contenders(workload, settings)
        runs = in_turn(
            f"steps of {stage}",
            {name: _phases_of(each, options.steps, until) for name, each in found.items()},
            options.repeats,
            until,
        )
        ours, naive = next(iter(found.values())), found[NAIVE]
        # Before any step every loss is about ln 2, whatever the model.
        naive.take_parameters(ours)
        stages[stage] = {
            "loss_difference": loss_difference(ours, naive),
            "contenders": {name: _summaries(parts) for name, parts in runs.items()},
        }
    return {"steps": options.steps, "stages": stages, "note": workload.reduction_note()}


def _phases_of(
    contender: Ours | Naive, steps: int, until: float
) -> Callable[[], list[dict[str, float]]]:
    return lambda: contender.phases(steps, until)


def _summaries(runs: list[list[dict[str, float]]]) -> dict[str, Any]:
    steps = [step for run in runs for step in run]
    parts = {phase: summary([step[phase] for step in steps]) for phase in PHASES}
    return {**parts, "step": summary([sum(step.values()) for step in steps])}


def loss_difference(ours: Ours, naive: Naive) -> float:
    """Return the relative difference of the loss on one batch, with equal parameters.

    Args:
        ours: this project's model.
        naive: the naive one, with the same parameters.
    """
    batch = next(iter(ours.loaders[0])).to(ours.config["device"])
    losses = []
    for model in (ours.model, naive.model):
        model.train()
        losses.append(float(sum(term.detach().double() for term in model.calculate_loss(batch))))
    return abs(losses[0] - losses[1]) / abs(losses[1])


def step_table(result: Mapping[str, Any]) -> Table:
    """Return the phases of a step, a row per stage and contender."""
    rows = []
    for stage, measured in result["stages"].items():
        entries = measured["contenders"]
        steps = {name: parts["step"] for name, parts in entries.items()}
        for name, whole, faster in with_ratios(steps, NAIVE):
            phases = [duration(entries[name][phase]["median"]) for phase in PHASES]
            rows.append(
                cells(stage, name, duration(whole["median"]), spread(whole), *phases, ratio(faster))
            )
    differences = ", ".join(
        f"{stage} {measured['loss_difference']:.1e}" for stage, measured in result["stages"].items()
    )
    return Table(
        "One training step",
        ("stage", "who", "step", "least to largest", *PHASES, "times faster"),
        tuple(rows),
        (
            "Medians over single steps. Sampling is everything between two steps: negatives, "
            "batches, moving them, looking at losses. What is done once an epoch is in the table "
            "of epochs.",
            f"Relative difference between the losses of recbole-margo and the naive reference: "
            f"{differences}.",
            result["note"],
        ),
    )


def measure_epochs(workload: Workload, options: Options) -> dict[str, Any]:
    """Time whole epochs.

    Args:
        workload: the data.
        options: how often, and whether the naive reference trains whole epochs too.

    Returns:
        By stage and contender, a summary of the seconds of an epoch, and the share of it outside
        of model and optimiser.
    """
    steps = None if options.full else options.steps
    stages: dict[str, Any] = {}
    until = options.until()
    for stage, settings in workload.stages().items():
        found = contenders(workload, {**settings, "cuda_graphs": "auto"})
        for each in found.values():
            each.train_steps(1)  # allocations, and what is prepared at the first use
        runs = in_turn(
            f"epoch of {stage}",
            {name: _epoch_of(each, steps, until) for name, each in found.items()},
            options.repeats,
            until,
        )
        batches = len(found[NAIVE].loaders[0])
        stages[stage] = {
            name: {
                "seconds": summary([run["seconds"] for run in parts]),
                "outside_share": _outside_share(parts),
                "steps": min(run.get("steps", batches) for run in parts),
                "batches": batches,
            }
            for name, parts in runs.items()
        }
    return {"stages": stages, "note": workload.reduction_note()}


def _epoch_of(
    contender: Ours | Naive, steps: int | None, until: float
) -> Callable[[], dict[str, float | None]]:
    if isinstance(contender, Naive):
        return lambda: contender.epoch(steps, until)
    return contender.epoch


def _outside_share(runs: list[dict[str, Any]]) -> float | None:
    if any(run["outside"] is None for run in runs):
        return None
    return statistics.median(run["outside"] / run["seconds"] for run in runs)


def epoch_table(result: Mapping[str, Any]) -> Table:
    """Return the epochs, a row per stage and contender."""
    rows = []
    for stage, entries in result["stages"].items():
        seconds = {name: entry["seconds"] for name, entry in entries.items()}
        for name, whole, faster in with_ratios(seconds, NAIVE):
            entry = entries[name]
            counted = f"{entry['steps']} of {entry['batches']}"
            rows.append(
                cells(
                    stage,
                    name,
                    duration(whole["median"]),
                    spread(whole),
                    share(entry["outside_share"]),
                    counted,
                    ratio(faster),
                )
            )
    return Table(
        "One training epoch",
        (
            "stage",
            "who",
            "epoch",
            "least to largest",
            "outside of the model",
            "steps run",
            "times faster",
        ),
        tuple(rows),
        (
            "Ours includes the checkpoint that is written after every epoch. Where fewer steps "
            "were run than an epoch has, the epoch is extrapolated from them.",
            result["note"],
        ),
    )
