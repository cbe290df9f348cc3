"""An audit: the rows of a catalogue against its users, and what a trained model adds to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.config import Config
from recbole_margo.data.features import load_item_features
from recbole_margo.data.protocol import load_and_split
from recbole_margo.errors import DataError
from recbole_margo.evidence.item_evidence import FittingShare
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.inspection.alignment import Verdict
from recbole_margo.studies.audit.item_contents import ItemContents, NamedItem
from recbole_margo.studies.audit.learned_weights import audited_runs
from recbole_margo.studies.audit.result import AsOnDisk, AuditSettings, LearnedAudit, audit_runs
from recbole_margo.studies.audit.row_evidence import RowEvidence
from recbole_margo.studies.comparison.plan import FULL_MODEL, labelled_runs

# More items than this share a placeholder rather than a mistake, and are told in one line.
MOST_NAMED = 5
# A list whose first row is more probably right than wrong has nothing to show.
MANY_ALARMS = 0.5


@dataclass(frozen=True)
class EqualItem(NamedItem):
    """One of several items with the same row, bit for bit.

    Attributes:
        score: how well the row fits this item's users, as in the list; NaN where unknown.
    """

    score: float


@dataclass(frozen=True)
class SuspiciousRow(NamedItem):
    """A row to look at; the numbers are those of docs/audit.md.

    Attributes:
        score: the held-out score, by which the list is ordered, the lowest first.
        p_value: share of the other items whose users the row fits as well.
        unrelated: estimated probability that the row says nothing of its item's users.
        false_alarms: estimated share of the rows up to this one that fit after all; it never falls
            down the list.
        same_as: the item that has the same row, or how many have it; empty if none has.
        index: place of the item among all [N].
    """

    users: int
    score: float
    p_value: float
    unrelated: float
    false_alarms: float
    same_as: str
    index: int


@dataclass(frozen=True)
class RowAudit:
    """The rows of one modality.

    Attributes:
        judged: of the rows that are there, how many belong to items that share users with others.
        unrelated: estimated number of rows that say nothing of their items' users.
        interactions: share of the training interactions whose items these rows are, as estimated.
        matching: how often a row fits its own item's users better than those of another item.
        matching_repaired: the same if the listed rows fitted as well as rows that fit do.
        matching_fitting: of rows that fit alone. Both are NaN where there is no sign that any does.
        equal: items with the same row; the one whose users it fits least comes first.
    """

    modality: str
    verdict: Verdict | None
    present: int
    judged: int
    fitting: FittingShare
    unrelated: float
    interactions: float
    matching: float
    matching_repaired: float
    matching_fitting: float
    listed: tuple[SuspiciousRow, ...]
    equal: tuple[tuple[EqualItem, ...], ...] = ()

    @property
    def stands_out(self) -> bool:
        """Whether a row of the list is more probably wrong than right, as far as can be told."""
        return any(row.false_alarms <= MANY_ALARMS for row in self.listed[:1])

    def as_plain(self) -> dict[str, Any]:
        """Return it as it stands in `audit.json`."""
        verdict = None if self.verdict is None else self.verdict.value
        listed = [{k: v for k, v in asdict(row).items() if k != "index"} for row in self.listed]
        groups = [[{"item": one.item, "score": one.score} for one in of] for of in self.equal]
        equal = [{"items": group} for group in groups]
        return {**asdict(self), "verdict": verdict, "listed": listed, "equal": equal}


@dataclass(frozen=True)
class AuditResult:
    """The findings of an audit.

    Attributes:
        rows: the evidence of all rows, of no trained model.
        learned: what trained models say beside it, if there are any.
    """

    dataset: str
    settings: AuditSettings
    rows: RowEvidence
    contents: ItemContents
    learned: LearnedAudit | None = None

    @cached_property
    def modalities(self) -> tuple[RowAudit, ...]:
        """The rows of each modality [M]."""
        return tuple(self._modality(index) for index in range(len(self.rows.modalities)))

    @property
    def by_trouble(self) -> list[RowAudit]:
        """The same, those in trouble as a whole first."""
        order = [Verdict.NO_SIGN, None, Verdict.WEAK, Verdict.FITS]

        def trouble(one: RowAudit) -> tuple[int, float]:
            return order.index(one.verdict), one.fitting.estimate

        return sorted(self.modalities, key=trouble)

    def _modality(self, index: int) -> RowAudit:
        rows = self.rows
        known = rows.known[:, index]
        unrelated, users = rows.unrelated[known, index], rows.users[known]
        order = rows.order(index, self.settings.min_pairs)
        listed = order[: self.settings.items]
        alarms = rows.false_alarms(index, order)[: len(listed)]
        verdict = rows.verdict(index)
        matching, best = 1 - rows.p_values[:, index], float("nan")
        repaired = np.full_like(matching, np.nan)
        if verdict in (Verdict.FITS, Verdict.WEAK):
            fits = 1 - rows.unrelated[known, index]
            best = float(fits @ matching[known] / fits.sum())
            repaired = matching.copy()
            repaired[listed] = np.maximum(repaired[listed], best)
        equal = equal_rows(rows, index, self.contents)
        others = same_as(equal)
        return RowAudit(
            modality=rows.modalities[index],
            verdict=verdict,
            present=int(rows.present[:, index].sum()),
            judged=int(known.sum()),
            fitting=rows.fitting[index],
            unrelated=float(unrelated.sum()),
            interactions=float((unrelated * users).sum() / max(rows.users.sum(), 1)),
            matching=float(matching[known].mean()) if known.any() else float("nan"),
            matching_repaired=float(repaired[known].mean()) if known.any() else float("nan"),
            matching_fitting=best,
            listed=tuple(
                self._row(int(item), index, float(alarm), others)
                for item, alarm in zip(listed, alarms, strict=True)
            ),
            equal=equal,
        )

    def _row(
        self, item: int, index: int, alarms: float, others: Mapping[str, str]
    ) -> SuspiciousRow:
        rows, token = self.rows, str(self.rows.items[item])
        return SuspiciousRow(
            *self.contents.named(token),
            users=int(rows.users[item]),
            score=float(rows.scores[item, index]),
            p_value=float(rows.p_values[item, index]),
            unrelated=float(rows.unrelated[item, index]),
            false_alarms=alarms,
            same_as=others.get(token, ""),
            index=item,
        )

    def as_plain(self) -> dict[str, Any]:
        """Return it as it stands in `audit.json`."""
        return {
            "format": 1,
            "dataset": self.dataset,
            "items": len(self.rows.items),
            "pairs": int(self.rows.users.sum()),
            "min_pairs": self.settings.min_pairs,
            "modalities": [part.as_plain() for part in self.modalities],
        }


def equal_rows(
    rows: RowEvidence, index: int, contents: ItemContents
) -> tuple[tuple[EqualItem, ...], ...]:
    """Return the items of a modality with the same row, that which fits an item least first."""
    tokens, scores = rows.items, rows.scores[:, index]

    def ordered(group: NDArray[np.intp]) -> NDArray[np.intp]:
        # lexsort puts NaN last.
        return group[np.lexsort((tokens[group], scores[group]))]

    groups = [ordered(group) for group in rows.equal[index]]
    first = np.array([group[0] for group in groups], dtype=np.intp)

    def item(at: int) -> EqualItem:
        return EqualItem(*contents.named(str(tokens[at])), float(scores[at]))

    order = np.lexsort((tokens[first], scores[first]))
    return tuple(tuple(map(item, groups[place])) for place in order)


def same_as(groups: Sequence[Sequence[EqualItem]]) -> dict[str, str]:
    """Return for each item with another's row that other's token, the one whose users it fits best.

    Of many items it says how many, as `63 items`.
    """
    found = {}
    for group in groups:
        known = [one for one in group if np.isfinite(one.score)] or list(group)
        for one in group:
            best = known[-1] if known[-1] is not one else group[0]
            found[one.item] = best.item if len(group) <= MOST_NAMED else f"{len(group):,} items"
    return found


def row_evidence(config: Any, dataset: Any, seed: int = 0) -> RowEvidence:
    """Judge the rows of a dataset as they are on disk, by its training interactions.

    Raises:
        DataError: there are no features, or no row can be judged.
    """
    features = load_item_features(AsOnDisk(config), dataset)
    interactions = interaction_matrix(dataset)
    found = RowEvidence.of(
        interactions,
        [matrix.numpy() for matrix in features.matrices],
        features.mask.numpy(),
        [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]],
        features.modalities,
        seed,
    )
    users = int((np.asarray(interactions.sum(axis=1)) > 0).sum())
    if users < 2 or not found.known.any():
        raise DataError(
            f"the dataset {config['dataset']!r} says nothing of its rows: expected several users, "
            "and at least three items that have a row and share users with other items, found "
            f"training interactions of {users:,} users and {int((found.users > 0).sum()):,} items"
        )
    return found


def audit_dataset(
    dataset: str,
    settings: AuditSettings,
    values: Mapping[str, object],
    config_files: Sequence[str] = (),
    images: Path | None = None,
) -> AuditResult:
    """Audit a dataset without a model, by the interactions that a training would train on.

    Args:
        values: values by key, as in `train`.
        config_files: YAML files, as in `train`.
        images: a folder of images named by item, or a table with their paths.

    Raises:
        ConfigError: if a value is wrong.
        DataError: if the dataset or its features are not there, damaged, or too small.
    """
    settings.check()
    config = Config(FULL_MODEL, dataset, list(config_files), {"use_gpu": False, **values})
    train = load_and_split(config)[1][0]._dataset
    return _of_data(config, train, settings, images)


def audit_folder(
    folder: str | Path,
    settings: AuditSettings | None = None,
    label: str | None = None,
    images: Path | None = None,
) -> AuditResult:
    """Audit the data of a run, and show what its MARGO learned of them.

    Args:
        folder: of one run, of a run of `train`, or of a comparison.
        label: of the runs that are audited; none: `MARGO`, or the only ones that can be.
        images: a folder of images named by item, or a table with their paths.

    Raises:
        RecBoleMargoError: if there is no such run, or its data have changed.
    """
    chosen = settings or AuditSettings()
    chosen.check()
    runs = labelled_runs(folder)
    name, audited = audited_runs(runs, label)
    # The cheap things that can be wrong come before the models.
    result = _of_data(audited[0].config, audited[0].dataset, chosen, images)
    return replace(result, learned=audit_runs(runs, name, audited, result.contents, chosen))


def _of_data(
    config: Any, dataset: Any, settings: AuditSettings, images: Path | None
) -> AuditResult:
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    contents = ItemContents.find(config, tokens, images)
    rows = row_evidence(config, dataset, settings.seed)
    return AuditResult(str(config["dataset"]), settings, rows, contents)
