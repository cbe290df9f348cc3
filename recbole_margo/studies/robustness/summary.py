"""What came out of a robustness study, as plain data: quality, detection, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_margo.evaluation.detection import (
    Detection,
    auc_estimate,
    detect,
    mean_roc,
    precision_estimate,
)
from recbole_margo.studies.comparison.ablation import FULL_MODEL
from recbole_margo.studies.comparison.report_summary import finished_seeds
from recbole_margo.studies.robustness.items import CorruptedItems
from recbole_margo.studies.robustness.plan import RobustnessPlan

ITEMS = ("all", "popular")
NEGATIVES = ("all others", "nothing corrupted")
BINS = 40
FALSE_POSITIVE_RATES = np.linspace(0.0, 1.0, 101)
# Step -> seed -> which items were corrupted, and what the detectors say.
Truth = Mapping[float, Mapping[int, CorruptedItems]]
Labelled = tuple[NDArray[np.float64], NDArray[np.bool_]]


def summarize_robustness(
    plan: RobustnessPlan, comparison: Mapping[str, Any], truth: Truth
) -> dict[str, Any]:
    """Return the summary of a study, which `recbole_margo.report` shows.

    Args:
        plan: the study.
        comparison: summary of the comparison of all entries.
        truth: the corrupted items of each step above 0 and each seed with a finished run.
    """
    by_label = {model["label"]: model for model in comparison["models"]}
    detection, roc = _detections(plan, truth)
    return {
        "dataset": plan.dataset,
        "eval_protocol": comparison["eval_protocol"],
        "split": comparison["split"],
        "seeds": list(plan.seeds),
        "valid_metric": comparison["valid_metric"],
        "absent_parts": list(comparison["absent_parts"]),
        "share": dict(plan.share),
        "kind": plan.kind,
        "signal_to_noise": plan.signal_to_noise if plan.kind == "noise" else None,
        "steps": list(plan.steps),
        "shares": [plan.shares(step) for step in plan.steps],
        "models": list(plan.models),
        "settings": dict(plan.settings),
        "metrics": list(comparison["metrics"]),
        "errors": [
            {"model": model, "step": step, "seed": int(seed), "error": error}
            for step in plan.steps
            for model in plan.models
            for seed, error in by_label[plan.entry(model, step).label]["errors"].items()
        ],
        "quality": [
            _quality(plan, comparison, by_label, model, step)
            for model in plan.models
            for step in plan.steps
        ],
        "reference": FULL_MODEL,
        "detection": detection,
        "roc": roc,
        "weights": list(_weights(plan, truth)),
        "why_no_detection": _why_none(plan, truth, detection),
    }


def _quality(
    plan: RobustnessPlan,
    comparison: Mapping[str, Any],
    by_label: Mapping[str, Mapping[str, Any]],
    model: str,
    step: float,
) -> dict[str, Any]:
    """Return the test metrics of a model at a step."""
    found = by_label[plan.entry(model, step).label]
    return {
        "model": model,
        "step": step,
        "seeds": finished_seeds(comparison, found),
        "values": found["values"],
        "mean": found["mean"],
        "std": found["std"],
    }


def _detections(
    plan: RobustnessPlan, truth: Truth
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one row per step, modality, items, negatives and detector, and ROC curves."""
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    questions = [
        (step, modality, items, negatives)
        for step in truth
        for modality in plan.share
        for items in ITEMS
        for negatives in NEGATIVES
    ]
    for step, modality, items, negatives in tqdm(questions, "Detection", leave=False, disable=None):
        about = {"step": step, "modality": modality}
        labelled = _labelled(truth[step], modality, items, negatives)
        draws = {
            name: {seed: detect(*draw, seed=seed) for seed, draw in of_seeds.items()}
            for name, of_seeds in labelled.items()
        }
        rows += [{**about, "items": items, "negatives": negatives, **row} for row in _rows(draws)]
        if (items, negatives) == (ITEMS[0], NEGATIVES[0]):
            curves += [
                {
                    **about,
                    "detector": name,
                    "false_positive_rate": FALSE_POSITIVE_RATES.tolist(),
                    "true_positive_rate": mean_roc(
                        list(of_seeds.values()), FALSE_POSITIVE_RATES
                    ).tolist(),
                }
                for name, of_seeds in labelled.items()
            ]
    return rows, curves


def _labelled(
    of_seeds: Mapping[int, CorruptedItems], modality: str, items: str, negatives: str
) -> dict[str, dict[int, Labelled]]:
    """Return scores and labels by detector and seed, where there are items of both kinds."""
    found: dict[str, dict[int, Labelled]] = {}
    for seed, draw in of_seeds.items():
        column = draw.column(modality)
        asked = draw.popular(modality) if items == "popular" else draw.asked(modality)
        if negatives == "nothing corrupted":
            asked = asked & draw.intact(modality)
        labels = draw.corrupted[asked, column]
        if labels.all() or not labels.any():
            continue
        for name, trust in draw.trust.items():
            found.setdefault(name, {})[seed] = (-trust[asked, column], labels)
    return found


def _rows(draws: Mapping[str, Mapping[int, Detection]]) -> Iterator[dict[str, Any]]:
    """Return one row per detector, compared with MARGO's on the seeds that both have."""
    reference = draws.get(FULL_MODEL, {})
    for name, of_seeds in draws.items():
        both = [seed for seed in of_seeds if seed in reference]
        difference = None
        if name != FULL_MODEL and both:
            difference = asdict(
                auc_estimate([of_seeds[seed] for seed in both], [reference[seed] for seed in both])
            )
        single = list(of_seeds.values())
        yield {
            "detector": name,
            "seeds": [{"seed": seed, **_plain(draw)} for seed, draw in of_seeds.items()],
            "auc": asdict(auc_estimate(single)),
            "average_precision": asdict(precision_estimate(single)),
            "chance": float(np.mean([draw.chance for draw in single])),
            "auc_above_reference": difference,
        }


def _plain(draw: Detection) -> dict[str, Any]:
    auc, precision = auc_estimate([draw]), precision_estimate([draw])
    return {
        "items": draw.items,
        "positives": draw.positives,
        "auc": draw.auc,
        "auc_low": auc.low,
        "auc_high": auc.high,
        "average_precision": draw.average_precision,
        "average_precision_low": precision.low,
        "average_precision_high": precision.high,
        "chance": draw.chance,
    }


def _weights(plan: RobustnessPlan, truth: Truth) -> Iterator[dict[str, Any]]:
    """Return the histograms of the weights of corrupted and other items, of each model."""
    for step, of_seeds in truth.items():
        for modality in plan.share:
            for model in plan.models:
                draws = [draw for draw in of_seeds.values() if model in draw.trust]
                parts = _weights_by_truth(draws, model, modality)
                if all(len(values) for values in parts.values()):
                    about = {"step": step, "modality": modality, "model": model}
                    yield {**about, **_histograms(parts)}


def _weights_by_truth(
    draws: Sequence[CorruptedItems], model: str, modality: str
) -> dict[str, NDArray[np.float64]]:
    parts: dict[str, list[NDArray[np.float64]]] = {"corrupted": [], "intact": []}
    for draw in draws:
        column, asked = draw.column(modality), draw.asked(modality)
        corrupted, weights = draw.corrupted[:, column], draw.trust[model][:, column]
        parts["corrupted"].append(weights[asked & corrupted])
        parts["intact"].append(weights[asked & ~corrupted])
    return {part: np.concatenate([np.zeros(0), *several]) for part, several in parts.items()}


def _histograms(parts: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return counts over equal bins between the twentieths around all weights, and means."""
    everything = np.concatenate(list(parts.values()))
    low, high = np.floor(everything.min() * 20) / 20, np.ceil(everything.max() * 20) / 20
    edges = np.linspace(low, max(high, low + 1 / 20), BINS + 1)
    found: dict[str, Any] = {"edges": edges.tolist()}
    for part, values in parts.items():
        found[part] = np.histogram(values, edges)[0].tolist()
        found[f"mean_{part}"] = float(values.mean())
    return found


def _why_none(
    plan: RobustnessPlan, truth: Truth, detection: Sequence[Mapping[str, Any]]
) -> str | None:
    """Return why nothing can be said about detection, None if something can."""
    if plan.kind == "missing":
        return (
            "An item that misses a modality has weight 0 for it by construction: there is nothing "
            "to detect, so only recommendation quality is reported."
        )
    if detection:
        return None
    if not any(truth.values()):
        return "No run on corrupted features finished."
    if all(len(draw.modalities) < 2 for draws in truth.values() for draw in draws.values()):
        return "With one modality its weight is always 1: there is nothing to detect."
    return (
        "No modality has both corrupted and other items that have another modality too and a "
        "training interaction."
    )
