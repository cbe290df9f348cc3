"""The plan of a robustness study: which models, corrupted how far, with which seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recbole_margo.config import Config, Settings
from recbole_margo.data.corruption import FeatureCorruption
from recbole_margo.data.features import modality_names
from recbole_margo.errors import ConfigError
from recbole_margo.studies.comparison.plan import ABLATIONS, FULL_MODEL, ComparisonPlan
from recbole_margo.studies.runs.entry import Entry, require_part

DEFAULT_SHARE = 0.3
MODELS: dict[str, Entry] = {
    FULL_MODEL: Entry(FULL_MODEL, FULL_MODEL),
    **{
        label: Entry(label, FULL_MODEL, ABLATIONS[label])
        for label in ("w/o L_cal", "w/o nograd", "w/o weight")
    },
    "DRAGON": Entry("DRAGON", "DRAGON"),
    "MARGO held_out": Entry("MARGO held_out", FULL_MODEL, {"evidence": "held_out"}),
}


@dataclass(frozen=True)
class RobustnessPlan:
    """A study that can be written down and continued.

    Args:
        share: modality -> share of the items that have it whose rows are corrupted.
        kind: what is done to them, one of `recbole_margo.data.corruption.KINDS`.
        signal_to_noise: of the kind `noise`, in decibels.
        steps: factors on the shares, ascending from 0, which is clean.
        seeds: seeds; each corrupts other items.
    """

    dataset: str
    share: Mapping[str, float]
    kind: str = "swap"
    signal_to_noise: float = 0.0
    steps: Sequence[float] = (0.0, 1.0)
    models: Sequence[str] = tuple(MODELS)
    seeds: Sequence[int] = (1, 2, 3)
    settings: Settings = field(default_factory=dict)

    def comparison(self) -> ComparisonPlan:
        """Return the comparison of all its runs."""
        return ComparisonPlan.of(self.entries(), self.dataset, self.seeds, self.settings)

    def entries(self) -> list[Entry]:
        """Return what is compared: every model at every step, the clean ones first."""
        return [self.entry(model, step) for step in self.steps for model in self.models]

    def entry(self, model: str, step: float) -> Entry:
        """Return a model whose features are corrupted as far as a step says."""
        known = MODELS[model]
        corruption = {} if step == 0 else {"feature_corruption": self._corruption(step)}
        return Entry(f"{model} @ {step:g}", known.model, {**known.settings, **corruption})

    def shares(self, step: float) -> dict[str, float]:
        """Return the share of each modality's rows that are corrupted at a step."""
        # Products such as 0.1 * 3 are shown to people.
        return {modality: round(step * share, 12) for modality, share in self.share.items()}

    def _corruption(self, step: float) -> Settings:
        found: Settings = {"share": self.shares(step), "kind": self.kind}
        return {**found, "signal_to_noise": self.signal_to_noise} if self.kind == "noise" else found

    def check(self) -> None:
        """Raise a `RecBoleMargoError` where the plan makes no sense, before anything is trained."""
        if "feature_corruption" in self.settings:
            raise ConfigError("say what is corrupted with --corrupt and --kind, not with a key")
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError(
                f"--models: expected different names among {', '.join(MODELS)}, found "
                f"{', '.join(self.models) or 'none'}"
            )
        if self.kind != "noise" and self.signal_to_noise != 0:
            raise ConfigError(
                f"--signal_to_noise is of --kind noise only, found --kind {self.kind}"
            )
        config = Config(FULL_MODEL, self.dataset, config_dict=dict(self.settings))
        modalities = modality_names(config)
        self._check_shares(modalities)
        FeatureCorruption.from_setting(self._corruption(self.steps[-1]), modalities, 0)
        require_part(config, "test", "a robustness study")

    def _check_shares(self, modalities: Sequence[str]) -> None:
        for modality, share in self.share.items():
            if modality not in modalities:
                raise ConfigError(
                    f"--corrupt: expected modalities of {self.dataset}, "
                    f"{', '.join(modalities)}, found {modality!r}"
                )
            largest = self.steps[-1] * share
            if not (share > 0 and largest <= 1):
                times = "" if self.steps[-1] == 1 else f" times the largest step {self.steps[-1]:g}"
                raise ConfigError(
                    "--corrupt: expected a share above 0 and at most 1, found "
                    f"{modality}={share:g}{times}; leave a modality out to keep it clean"
                )
