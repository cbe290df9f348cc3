"""The findings of a sweep: a curve per hyper-parameter, of a point per value."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_margo.config import Config, Settings
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.model.parameters import Hyperparameter
from recbole_margo.registry import find_model
from recbole_margo.studies.comparison.result import ComparedModel, Comparison
from recbole_margo.studies.wording import EvaluatedParts

# Numbers that span less than this factor are drawn on a linear axis unless a range says otherwise.
LOGARITHMIC_SPAN = 20.0


@dataclass(frozen=True)
class Point:
    """The runs with one value of a hyper-parameter.

    Attributes:
        label: name of its runs.
        own: whether it is the value that the model has in the other curves.
        seeds: those that finished [S].
        valid: metric of selection on validation [S].
        test: values by metric [S].
        errors: by seed that failed.
    """

    value: Any
    text: str
    label: str
    own: bool
    seeds: tuple[int, ...]
    valid: tuple[float | None, ...]
    test: Mapping[str, tuple[float | None, ...]]
    errors: Mapping[str, str]

    def mean_and_deviation(self, on: str, metric: str) -> tuple[float | None, float | None]:
        """Return mean and sample standard deviation over seeds, each None where there is none.

        Args:
            on: `valid`, where only the metric of selection is known, or `test`.
        """
        values = self.valid if on == "valid" else self.test.get(metric, ())
        return mean_and_deviation([value for value in values if value is not None])


@dataclass(frozen=True)
class Curve:
    """The points of a hyper-parameter, in the order of their values.

    Attributes:
        scale: `log`, `linear`, or `ordinal` for what is no number.
    """

    name: str
    meaning: str | None
    scale: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep, whose plain form is `sweep.json`; see docs/sweep.md."""

    model: str
    dataset: str
    eval_protocol: str | None
    split: str
    seeds: tuple[int, ...]
    valid_metric: str | None
    settings: Settings
    metrics: tuple[str, ...]
    absent_parts: tuple[str, ...]
    hyperparameters: tuple[Curve, ...]

    @classmethod
    def of_comparison(cls, compared: Comparison) -> Sweep:
        """Return the curves of a comparison.

        Args:
            compared: its first model has no settings of its own and each other one.
        """
        own, *others = compared.models
        model_class = find_model(own.model)
        config = Config(own.model, compared.dataset, config_dict=dict(compared.settings))
        by_key: dict[str, list[Point]] = {}
        for entry in others:
            ((key, value),) = entry.settings.items()
            points = by_key.setdefault(key, [_point(compared, own, config[key], True)])
            points.append(_point(compared, entry, value, False))
        curves = []
        for key, points in by_key.items():
            known = hyperparameter_of(model_class, key)
            scale = axis_scale([point.value for point in points], known)
            points.sort(key=lambda point: _rank(point.value))
            curves.append(Curve(key, known.meaning if known else None, scale, tuple(points)))
        return cls(
            own.model,
            compared.dataset,
            compared.eval_protocol,
            compared.split,
            compared.seeds,
            compared.valid_metric,
            compared.settings,
            compared.metrics,
            compared.absent_parts,
            tuple(curves),
        )

    @property
    def parts(self) -> EvaluatedParts:
        """The parts that the runs were evaluated on."""
        return EvaluatedParts.of_absent(self.absent_parts)

    @property
    def selected_by(self) -> str:
        """The metric of selection as RecBole's results name it, `metric` if none is known."""
        return (self.valid_metric or "metric").lower()


def _point(compared: Comparison, entry: ComparedModel, value: Any, own: bool) -> Point:
    return Point(
        value,
        value_text(value),
        entry.label,
        own,
        tuple(compared.finished_seeds(entry)),
        entry.valid,
        entry.values,
        entry.errors,
    )


def _rank(value: Any) -> tuple[int, float]:
    """Order numbers by size, after what is none; what is no number keeps its place."""
    is_number = isinstance(value, int | float)
    return (1, float(value)) if is_number else (0 if value is None else 2, 0.0)


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the sample standard deviation, each None where there is none."""
    if not values:
        return None, None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation


def hyperparameter_of(model_class: type[Any], key: str) -> Hyperparameter | None:
    """Return what a model of ours says about a key, or none."""
    if not issubclass(model_class, MultimodalRecommender):
        return None
    return model_class.parameters_class.descriptions().get(key)


def value_text(value: Any) -> str:
    """Return a value as a label shows it."""
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def axis_scale(values: Sequence[Any], known: Hyperparameter | None) -> str:
    """Return how values are spaced: `log`, `linear`, or `ordinal` for what is no number."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or any(isinstance(value, bool) for value in values):
        return "ordinal"
    published = known.search[2] if known and isinstance(known.search, tuple) else None
    positive = [number for number in numbers if number > 0]
    wide = len(positive) > 1 and max(positive) / min(positive) >= LOGARITHMIC_SPAN
    if published != "log" and not wide:
        return "linear"
    # A zero has no place on a logarithmic axis.
    return "log" if len(positive) == len(numbers) else "ordinal"
