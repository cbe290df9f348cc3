"""The graph, features and mask of a world as the dense formulas take them."""

from __future__ import annotations

import dense_formulas as dense
import numpy as np

from recbole_margo.testing import Experiment, World


def dense_inputs(experiment: Experiment, world: World) -> dense.Inputs:
    """Return the graph, features and mask of a world by internal ids, found by token."""
    users, items = zip(*world.splits["train"], strict=True)
    R = np.zeros((experiment.dataset.user_num, experiment.dataset.item_num))
    R[experiment.user_ids(users), experiment.item_ids(items)] = 1
    mask = np.zeros((experiment.dataset.item_num, len(world.features)), dtype=bool)
    features = []
    for m, rows in enumerate(world.features.values()):
        ids = experiment.item_ids(list(rows))
        # The files hold float32.
        stored = np.stack(list(rows.values())).astype(np.float32).astype(np.float64)
        matrix = np.zeros((experiment.dataset.item_num, stored.shape[1]))
        matrix[ids], mask[ids, m] = stored, True
        features.append(matrix)
    return dense.Inputs(R, features, mask)
