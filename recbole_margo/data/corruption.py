"""Features made worse on purpose, so that the truth about their reliability is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.data.feature_transforms import check_modality_names
from recbole_margo.data.row_norms import RowNorms
from recbole_margo.errors import ConfigError
from recbole_margo.rules import choice, mapping, mapping_to, number, whole

KINDS = ("swap", "noise", "blank", "missing")
FORM = mapping(
    {
        "share": mapping_to(number(0, 1)),
        "kind": choice(*KINDS),
        "seed": whole(0),
        "signal_to_noise": number(-math.inf),
    }
)


@dataclass(frozen=True)
class FeatureCorruption:
    r"""Which share of the items gets a bad row in which modality, and what is done to the row.

    - `swap`: each row goes to another of the chosen items.
    - `noise`: :math:`x + \epsilon`, Gaussian, with :math:`E\lVert \epsilon \rVert^2 =
      \lVert x - \bar{x} \rVert^2 / 10^{snr / 10}`, where the mean is over all items.
    - `blank`: the mean row of all items, the same for each, as a placeholder's would be.
    - `missing`: the items miss the modality.

    Args:
        share: modality -> share in [0, 1] of the items that have it.
        kind: one of `KINDS`.
        seed: decides which items and how.
        signal_to_noise: of `noise`, in decibels.
    """

    share: Mapping[str, float]
    kind: str = "swap"
    seed: int = 0
    signal_to_noise: float = 0.0

    @classmethod
    def from_setting(
        cls, setting: Any, modalities: Sequence[str], seed: int
    ) -> FeatureCorruption | None:
        """Read the value of `feature_corruption`.

        Args:
            setting: a mapping with `share` and, if they are not the defaults, the other fields; or
                None, for no corruption.
            seed: what `seed` is where the setting names none.

        Raises:
            ConfigError: if it has another form, or names a modality that is not in use.
        """
        if setting is None:
            return None
        if not isinstance(setting, Mapping) or not isinstance(setting.get("share"), Mapping):
            raise ConfigError(
                "`feature_corruption` must look like {share: {text: 0.3}, kind: swap}, found "
                f"{setting!r}"
            )
        values = {key: value for key, value in setting.items() if value is not None}
        FORM("feature_corruption", values)
        check_modality_names("feature_corruption", values["share"], modalities)
        return cls(**{"seed": seed, **values})

    def choose(
        self, item_tokens: Sequence[str], mask: Tensor, modalities: Sequence[str]
    ) -> NDArray[np.bool_]:
        """Choose the items, different ones for each modality as long as there are any left.

        The choice depends on tokens, not on internal ids, and not on the split.

        Args:
            item_tokens: tokens [I], PAD first.
            mask: which items have which modality [I, M].
            modalities: names of the modalities [M].

        Returns:
            Which items are corrupted in which modality [I, M].
        """
        random = np.random.default_rng(self.seed)
        by_token = np.argsort(np.asarray(item_tokens, dtype=np.str_), kind="stable")
        chosen = np.zeros(mask.shape, dtype=np.bool_)
        present = mask.numpy()
        for column, modality in enumerate(modalities):
            candidates = random.permutation(by_token[present[by_token, column]])
            before = chosen[candidates].sum(axis=1)
            candidates = candidates[np.argsort(before, kind="stable")]
            count = round(self.share.get(modality, 0.0) * len(candidates))
            # A single row has no other to be swapped with.
            if self.kind == "swap" and count == 1:
                count = 0
            chosen[candidates[:count], column] = True
        return chosen

    def apply(
        self,
        matrices: Sequence[Tensor],
        mask: Tensor,
        modalities: Sequence[str],
        item_tokens: Sequence[str],
    ) -> Tensor:
        """Corrupt matrices and presence mask in place, before any normalisation.

        Args:
            matrices: per modality [I, D_m], zero where the item misses the modality.
            mask: [I, M] bool.
            modalities: names of the modalities [M].
            item_tokens: tokens [I], PAD first.

        Returns:
            Which items were corrupted in which modality [I, M], bool.

        Raises:
            ConfigError: if no item would be left with a modality.
        """
        chosen = self.choose(item_tokens, mask, modalities)
        tokens = np.asarray(item_tokens, dtype=np.str_)
        for column, matrix in enumerate(matrices):
            rows = np.flatnonzero(chosen[:, column])
            rows = rows[np.argsort(tokens[rows], kind="stable")]
            if not len(rows):
                continue
            random = np.random.default_rng([self.seed, column])
            self._corrupt(matrix, mask[:, column], torch.from_numpy(rows), random)
            if not mask[:, column].any():
                raise ConfigError(
                    f"`feature_corruption`: no item would keep {modalities[column]!r}; leave it "
                    "out with `modalities`"
                )
        return torch.from_numpy(chosen)

    def _corrupt(
        self, matrix: Tensor, present: Tensor, rows: Tensor, random: np.random.Generator
    ) -> None:
        if self.kind == "swap":
            # Along one cycle, so that no row stays where it was.
            cycle = rows[torch.from_numpy(random.permutation(len(rows)))]
            matrix[cycle] = matrix[cycle.roll(1)].clone()
            return
        if self.kind == "missing":
            matrix[rows] = 0.0
            present[rows] = False
            return
        mean = matrix[present].double().mean(dim=0).to(matrix.dtype)
        if self.kind == "blank":
            matrix[rows] = mean
            return
        norms = RowNorms.of(matrix[rows] - mean)
        signal = (norms.power * norms.norm).unsqueeze(1)
        noise = torch.from_numpy(
            random.standard_normal((len(rows), matrix.shape[1]), dtype=np.float32)
        )
        scale = signal / (math.sqrt(matrix.shape[1]) * 10 ** (self.signal_to_noise / 20))
        matrix[rows] += scale * noise
