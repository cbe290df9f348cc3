"""No model holds a matrix of all items by all items, or of a batch by all users or items."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_margo.graph import exact_knn
from recbole_margo.nn import losses as contrastive
from recbole_margo.registry import multimodal_models
from recbole_margo.testing import MISSING, prepare, random_world

USERS, ITEMS, BATCH = 250, 220, 60
BLOCK = 2**10


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = 0
        self.shape: tuple[int, ...] = ()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            dense = isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided
            if dense and leaf.numel() > self.cells:
                self.cells, self.shape = leaf.numel(), tuple(leaf.shape)
        return result


@pytest.mark.parametrize("model", multimodal_models())
def test_the_largest_tensor_grows_with_the_nodes_not_with_their_square(
    tmp_path, monkeypatch, model
):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", BLOCK)
    monkeypatch.setattr(exact_knn, "BLOCK_CELLS", BLOCK)
    world = random_world(2, users=USERS, items=ITEMS).without(MISSING["some items miss one"])
    with LargestTensor() as largest:
        experiment = prepare(world.write(tmp_path), model)
        batch = experiment.batch(experiment.random_triplets(BATCH))
        for stage in experiment.model.training_stages:
            experiment.model.begin_stage(stage)
            experiment.model.train()
            terms = experiment.model.calculate_loss(batch)
            torch.stack(terms if isinstance(terms, tuple) else (terms,)).sum().backward()
            experiment.model.scoring_tables()
    # All nodes in the widest of the models: ids and two modalities, eight numbers each.
    widest = 24 * (USERS + ITEMS + 2)
    assert largest.cells <= widest < BATCH * ITEMS < ITEMS**2, largest.shape
