"""Which parts of the data results were selected and tested by, as records tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_margo.report.table import NOTHING

NOT_VALIDATED = "not validated: the last epoch's parameters are the result"
NOT_TESTED = "no test part: nothing was tested"
PART_NAMES = {"valid": "validation", "test": "test"}


@dataclass(frozen=True)
class EvaluatedParts:
    """Which parts of the data some results are of.

    A part is not there if no interaction fell into it; validation is not there either if it was
    switched off.

    Args:
        valid: whether the epochs were chosen by validation.
        test: whether the result was tested.
    """

    valid: bool = True
    test: bool = True

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, Any]]) -> EvaluatedParts:
        """Return the parts that any finished run of some was evaluated on.

        Args:
            records: result records, see `recbole_margo.run`.
        """
        finished = [record for record in records if record["status"] == "finished"]
        if not finished:
            return cls()
        return cls(*(any(record[part] for record in finished) for part in PART_NAMES))

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any]) -> EvaluatedParts:
        """Return what `absent` wrote into the summary of a study.

        Args:
            summary: of a comparison, or of another study over runs.
        """
        absent = summary.get("absent_parts") or ()
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
        """Return by what the result was selected.

        Args:
            metric: name of the metric of validation.
        """
        return f"selected by {metric} on validation" if self.valid else NOT_VALIDATED

    def absences(self) -> list[str]:
        """Return one sentence for every part that was not there."""
        found = [] if self.valid else [NOT_VALIDATED]
        found += [] if self.test else [NOT_TESTED]
        return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in found]


def epochs_text(record: Mapping[str, Any]) -> str:
    """Return which epoch of each stage is the result, counted from 1.

    Args:
        record: the result record of a finished run.
    """
    return " + ".join(epoch_text(stage) for stage in record["stages"])


def epoch_text(stage: Mapping[str, Any]) -> str:
    """Return which epoch of a stage is its result, counted from 1.

    Args:
        stage: a stage of a result record.
    """
    if stage["best_epoch"] >= 0:
        return str(stage["best_epoch"] + 1)
    # Some of RecBole's trainers validate and do not tell at which epoch.
    return NOTHING if stage["valid"] else f"{stage['epochs']} (last)"
