"""How every study words its metrics, its numbers and the conditions of its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from recbole.evaluator.register import metrics_dict, smaller_metrics

from recbole_margo.config import Settings
from recbole_margo.report import NOTHING, Cell, clean
from recbole_margo.run_folder import RunResult, StageResult

NOT_VALIDATED = "not validated: the last epoch's parameters are the result"
NOT_TESTED = "no test part: nothing was tested"
PART_NAMES = {"valid": "validation", "test": "test"}
PROTOCOL_MEANING = {
    "recbole": "training and validation items leave the candidates at test",
    "mmrec": "only training items leave the candidates at test, as in MMRec's published tables",
}


@dataclass(frozen=True)
class EvaluatedParts:
    """Which parts of the data some results are of.

    A part is not there if no interaction fell into it; validation is not there either if it was
    switched off.

    Args:
        valid: whether the epochs were chosen by validation.
    """

    valid: bool = True
    test: bool = True

    @classmethod
    def of_runs(cls, results: Sequence[RunResult]) -> EvaluatedParts:
        """Return the parts that any of some finished runs was evaluated on."""
        if not results:
            return cls()
        return cls(*(any(getattr(run, part) for run in results) for part in PART_NAMES))

    @classmethod
    def of_absent(cls, absent: Sequence[str]) -> EvaluatedParts:
        """Return what is left without the parts that `absent` named."""
        return cls(*(part not in absent for part in PART_NAMES))

    @property
    def absent(self) -> list[str]:
        """The parts that were not there, `valid` and `test`."""
        return [part for part in PART_NAMES if not getattr(self, part)]

    @property
    def shown(self) -> str | None:
        """The part whose metrics a table shows: test, or else validation, or none."""
        return "test" if self.test else ("valid" if self.valid else None)

    def selection(self, metric: str) -> str:
        """Return by what the result was selected."""
        return f"selected by {metric} on validation" if self.valid else NOT_VALIDATED

    def absences(self) -> list[str]:
        """Return one sentence for every part that was not there."""
        found = [] if self.valid else [NOT_VALIDATED]
        found += [] if self.test else [NOT_TESTED]
        return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in found]


def epochs_text(result: RunResult) -> str:
    """Return which epoch of each stage is the result, counted from 1."""
    return " + ".join(map(epoch_text, result.stages))


def epoch_text(stage: StageResult) -> str:
    """Return which epoch of a stage is its result, counted from 1."""
    if stage.best_epoch >= 0:
        return str(stage.best_epoch + 1)
    # Some of RecBole's trainers validate and do not tell at which epoch.
    return NOTHING if stage.valid else f"{stage.epochs} (last)"


def metric_name(key: str) -> str:
    """Return `Recall@20` for RecBole's `recall@20`."""
    name, at, k = clean(key).partition("@")
    known = metrics_dict.get(name.lower())
    return f"{known.__name__ if known else name}{at}{k}"


def is_smaller_better(key: str) -> bool:
    """Return whether smaller values of a metric are better."""
    return key.split("@")[0].lower() in smaller_metrics


def axis_name(key: str, where: str = "test") -> str:
    """Return a metric as the axis of a figure names it."""
    better = " (smaller is better)" if is_smaller_better(key) else ""
    return f"{metric_name(key)} on {where}{better}"


def number(value: float | None, form: str = ".4f") -> str:
    """Return a number as it is printed everywhere."""
    return NOTHING if value is None else format(value, form)


def spread(mean: float | None, deviation: float | None, form: str = ".4f") -> str:
    """Return a mean, and behind it the deviation where there is one."""
    return number(mean, form) + ("" if deviation is None else f" ± {number(deviation, form)}")


def best_number(values: Iterable[float | None], metric: str) -> str:
    """Return the best value as it is printed: equal to four decimals is equally good."""
    pick = min if is_smaller_better(metric) else max
    known = (value for value in values if value is not None and math.isfinite(value))
    return number(pick(known, default=None))


def mean_cell(
    mean: float | None, deviation: float | None, best: str, aside: str = "", marked: bool = False
) -> Cell:
    """Return a mean with its deviation, in bold if it is printed like the best of its column.

    Args:
        aside: text after it.
        marked: whether it differs significantly from the reference.
    """
    is_best = mean is not None and number(mean) == best
    return Cell(spread(mean, deviation) + aside, is_best, mean is not None and marked)


def over_seeds(seeds: Sequence[int], aside: str = "") -> str:
    """Return the sentence that says over which seeds means are taken.

    Args:
        aside: what follows several seeds.
    """
    listed = ", ".join(map(str, seeds))
    if len(seeds) == 1:
        return f"One seed ({listed}), so there is no deviation over seeds."
    return f"Mean ± sample standard deviation over {len(seeds)} seeds ({listed}){aside}."


def best_note(seeds: Sequence[int]) -> str:
    """Return the sentence that says what is bold."""
    return f"Best {'value' if len(seeds) == 1 else 'mean'} in bold."


def failed_line(label: str, seed: object, error: str) -> str:
    """Return the line that says which run failed, and why."""
    return f"{clean(label)} failed, seed {seed}: {clean(error)}"


def value_rows(
    metrics: Iterable[str],
    seeds: Sequence[int],
    values: Mapping[str, Sequence[float | None]],
    statistics: Mapping[str, Mapping[str, float | None]],
) -> Iterator[dict[str, object]]:
    """Yield the rows of a CSV by metric: the value of each seed, then what is known over seeds.

    Args:
        values: values [S] by metric.
        statistics: values by metric, by name of the statistic.
    """
    for metric in metrics:
        about = {"metric": clean(metric)}
        for seed, value in zip(seeds, values.get(metric, ()), strict=False):
            yield {**about, "statistic": "value", "seed": seed, "value": value}
        for statistic, of_metric in statistics.items():
            if of_metric.get(metric) is not None:
                yield {**about, "statistic": statistic, "value": of_metric[metric]}


def p_value(value: float | None) -> str:
    """Return a p-value; the smallest that four decimals hold is 0.0001."""
    return "< 0.0001" if value is not None and value < 0.0001 else number(value)


def protocol_text(protocol: object) -> str:
    """Return an evaluation protocol with what it means."""
    name = clean(protocol)
    meaning = PROTOCOL_MEANING.get(name)
    return f"{name}: {meaning}" if meaning else name


def how_evaluated(
    protocol: str | None,
    valid_metric: str | None,
    parts: EvaluatedParts,
    settings: Settings | None = None,
) -> list[tuple[str, str]]:
    """Return protocol, metric of selection and the settings that all share, by name.

    Without a finished run nothing tells the protocol and the metric.
    """
    found = []
    if protocol is not None:
        found.append(("Evaluation protocol", protocol_text(protocol)))
    if valid_metric is not None:
        found.append(("Selection", parts.selection(metric_name(valid_metric))))
        found += [] if parts.test else [("Test", NOT_TESTED)]
    return [*found, ("Settings of all", shown_settings(settings))] if settings else found


def shown_settings(settings: Settings) -> str:
    """Return settings on one line, values as JSON."""
    return ", ".join(
        f"{clean(key)} = {clean(json.dumps(value, ensure_ascii=False, default=str))}"
        for key, value in settings.items()
    )
