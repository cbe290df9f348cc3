"""The models and the variants of MARGO that tests of every model run on."""

from __future__ import annotations

from typing import Any

from recbole_margo.registry import multimodal_models

# Case -> model and settings; a new model in the registry is tested without a word.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in multimodal_models()}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "MARGO on LightGCN": ("MARGO", {"backbone": "LightGCN"}),
    "MARGO w/o weight": ("MARGO", {"item_weights": False}),
    "MARGO w/o L_cal": ("MARGO", {"alpha": 0.0}),
    "MARGO w/o two-stage": ("MARGO", {"two_stage": False}),
    "MARGO w/o nograd": ("MARGO", {"stop_gradient": False}),
    "MARGO on held-out evidence": ("MARGO", {"evidence": "held_out"}),
    "MARGO on text": ("MARGO", {"modalities": ["text"]}),
}
