"""The dense formulas, applied to the parameters and inputs of a model under test."""

from __future__ import annotations

from collections.abc import Mapping

import dense_formulas as dense
import numpy as np
from dense_inputs import dense_inputs

from recbole_margo.testing import SMALL, Experiment, World

# {text: 0.9, other: 0.1} of the published setting, for the worlds' modalities, summing to 1.
GRAPH_WEIGHTS = {1: [1.0], 2: [0.1, 0.9], 3: [0.1 / 1.1, 0.9 / 1.1, 0.1 / 1.1]}


def dense_dragon(
    experiment: Experiment,
    world: World,
    parameters: Mapping[str, np.ndarray] | None = None,
    user_weights: np.ndarray | None = None,
    layers: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return DRAGON's users [U, M, d] and items [I, M, d] for a backbone's parameters."""
    return dense.dragon(
        dense_inputs(experiment, world),
        experiment.parameters("backbone.") if parameters is None else parameters,
        GRAPH_WEIGHTS[len(world.modalities)],
        SMALL["item_neighbors"],
        SMALL["user_neighbors"],
        layers,
        user_weights,
    )
