"""The ablations of MARGO's paper, as entries of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_margo.config import Config
from recbole_margo.data.features import modality_names
from recbole_margo.studies.runs.entry import Entry

FULL_MODEL = "MARGO"
SUM, MEAN = "w/o weight", "w/o weight, mean"
SWITCHES: dict[str, dict[str, Any]] = {
    SUM: {"item_weights": False},
    "w/o L_cal": {"alpha": 0.0},
    "w/o two-stage": {"two_stage": False},
    "w/o nograd": {"stop_gradient": False},
}


def ablation_entries(dataset: str, settings: Mapping[str, Any]) -> list[Entry]:
    """Return MARGO, its ablations, MARGO on each single modality, and DRAGON.

    `w/o weight` sums what MARGO's weights average, so that its loss sees larger scores. `w/o
    weight, mean` is the control: the sum divided by the number of modalities inside the loss.

    Args:
        dataset: name of the dataset.
        settings: values by key that all share; `modalities` among them says which there are.

    Returns:
        The entries, MARGO first. With one modality there are none of single modalities.

    Source: MARGO (arXiv 2504.16524), Table IV.
    """
    config = Config(FULL_MODEL, dataset, config_dict=dict(settings))
    modalities = modality_names(config)
    entries = Entry.of_models([FULL_MODEL])
    switches = dict(SWITCHES)
    if len(modalities) > 1:
        switches[MEAN] = {**switches[SUM], "score_scale": config["score_scale"] / len(modalities)}
    entries += [Entry(label, FULL_MODEL, switch) for label, switch in switches.items()]
    if len(modalities) > 1:
        entries += [
            Entry(f"{FULL_MODEL} {modality}", FULL_MODEL, {"modalities": [modality]})
            for modality in modalities
        ]
    return entries + Entry.of_models(["DRAGON"])
