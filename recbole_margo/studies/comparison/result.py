"""The result of a comparison: values over seeds, tests over users, slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recbole_margo.config import Settings
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.report import clean
from recbole_margo.studies.comparison.cold import ColdComparison
from recbole_margo.studies.wording import EvaluatedParts, failed_line, how_evaluated

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class ComparedModel:
    """A model of a comparison; its lists have one value for each seed that finished [S].

    Attributes:
        settings: values by key that only it has.
        status: `finished` if any seed did, or `failed`.
        values: test values [S] by metric.
        valid: metric of selection on validation [S].
        mean: of the test values, by metric.
        seconds: of each run [S].
        best_epochs: which epoch of each stage is the result [S].
        peak_memory_mib: the largest of all runs.
    """

    label: str
    model: str
    settings: Settings = field(default_factory=dict)
    status: str
    errors: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    valid: tuple[float | None, ...] = ()
    mean: Mapping[str, float | None] = field(default_factory=dict)
    std: Mapping[str, float | None] = field(default_factory=dict)
    seconds: tuple[float | None, ...] = ()
    best_epochs: tuple[str, ...] = ()
    peak_memory_mib: float | None = None

    @property
    def has_results(self) -> bool:
        """Whether a seed has finished and was tested."""
        return any(value is not None for value in self.mean.values())


@dataclass(frozen=True, kw_only=True)
class UserTest:
    """The paired tests of a model against the reference, over users, on one metric."""

    label: str
    users: int
    difference: float
    low: float
    high: float
    effect_size: float | None
    wilcoxon_p: float | None
    bootstrap_p: float | None
    wilcoxon_holm: float | None
    bootstrap_holm: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the Holm-corrected Wilcoxon p-value is below `ALPHA`."""
        return self.wilcoxon_holm is not None and bool(self.wilcoxon_holm < ALPHA)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of the test set, with the metric on it alone by label of the model."""

    kind: str
    name: str
    metric: str
    users: int
    pairs: int
    values: Mapping[str, float | None]

    @property
    def size(self) -> str:
        """Of how many users and pairs it is, in words."""
        users = f"{self.users:,} user{'s' * (self.users != 1)}"
        return f"{users}, {self.pairs:,} pair{'s' * (self.pairs != 1)}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison, whose plain form is `summary.json`; see docs/compare.md."""

    dataset: str
    eval_protocol: str | None
    split: str
    seeds: tuple[int, ...]
    valid_metric: str | None
    absent_parts: tuple[str, ...] = ()
    reference: str
    settings: Settings = field(default_factory=dict)
    metrics: tuple[str, ...]
    models: tuple[ComparedModel, ...]
    tests: Mapping[str, tuple[UserTest, ...]] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    cold: ColdComparison | None = None

    @property
    def parts(self) -> EvaluatedParts:
        """The parts that the runs were evaluated on."""
        return EvaluatedParts.of_absent(self.absent_parts)

    @property
    def selection_metric(self) -> str | None:
        """The metric of selection, or the first one if it was not tested."""
        chosen = str(self.valid_metric).lower()
        return chosen if chosen in self.metrics else next(iter(self.metrics), None)

    @property
    def tested_users(self) -> str:
        """How many users the tests are paired over, empty without tests."""
        counts = {test.users for tests in self.tests.values() for test in tests}
        ends = sorted({min(counts), max(counts)}) if counts else []
        return " to ".join(f"{count:,}" for count in ends)

    def finished_seeds(self, entry: ComparedModel) -> list[int]:
        """Return the seeds that the lists of a model belong to.

        Raises:
            RecBoleMargoError: if there are more values than seeds that did not fail.
        """
        left = [seed for seed in self.seeds if str(seed) not in entry.errors]
        # Without a test part there are values of validation alone.
        count = max(len(values) for values in [*entry.values.values(), entry.valid])
        if count > len(left):
            raise RecBoleMargoError(
                f"the comparison names {len(left)} seeds of {entry.label!r} that did not fail "
                f"({', '.join(map(str, left))}), but holds {count} values: give one value a seed"
            )
        return left[:count]

    def slices_by_kind(self) -> dict[tuple[str, str], list[Slice]]:
        """Return the slices by kind and metric, in their order."""
        kinds: dict[tuple[str, str], list[Slice]] = {}
        for part in self.slices:
            kinds.setdefault((clean(part.kind), part.metric), []).append(part)
        return kinds

    def failures(self) -> list[str]:
        """Return one line per run that failed, with the reason."""
        lines = []
        for entry in self.models:
            lines += [failed_line(entry.label, *one) for one in entry.errors.items()]
            if entry.status == "failed" and not entry.errors:
                lines.append(f"{clean(entry.label)} failed.")
        return lines

    def conditions(self) -> list[tuple[str, str]]:
        """Return under which conditions it came about, as names and values."""
        found = [("Dataset", clean(self.dataset))]
        splits = clean(self.split or "").split()
        if splits:
            same = "the same for all runs" if len(splits) == 1 else "NOT the same for all runs"
            found.append(("Split", f"{', '.join(splits)}: {same}"))
        found.append(("Seeds", ", ".join(map(str, self.seeds))))
        found.append(("Reference", clean(self.reference)))
        how = how_evaluated(self.eval_protocol, self.valid_metric, self.parts, self.settings)
        return [*found, *how]
