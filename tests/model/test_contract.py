"""The contract, run on every model of the registry and on the variants of MARGO."""

from __future__ import annotations

import re
from typing import Any

from cases import MODELS, VARIANTS

from recbole_margo.model.parameters import yaml_values
from recbole_margo.registry import OURS, multimodal_models
from recbole_margo.testing import ModelContract

OF_CASES: dict[str, dict[str, Any]] = {
    # Without negatives nothing drives the blocks apart but the cosines, which takes more steps.
    "BM3": {"block_settings": {"epochs": 30}},
    "MARGO w/o weight": {"untrained": {"weight_logits"}},
    # One modality has weight 1 whatever its logit.
    "MARGO on text": {"zero_gradients": {"weight_logits"}},
}
for case, (model, settings) in {**MODELS, **VARIANTS}.items():
    name = "Test" + re.sub(r"\W+", "_", case)
    attributes = {"model": model, "settings": settings, **OF_CASES.get(case, {})}
    globals()[name] = type(name, (ModelContract,), attributes)


def test_every_value_of_our_models_stands_in_their_own_file():
    for entry in multimodal_models().values():
        if entry.source == OURS:
            found = entry.load()
            assert list(yaml_values(found)) == list(found.parameters_class.descriptions())
