"""Which losses fall into shares, and what the processes are told, all in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbole_margo.registry import multimodal_models
from recbole_margo.testing import prepare, random_world
from recbole_margo.training.distributed import shares_batches
from recbole_margo.training.processes import Processes

WORLD = random_world()
MISSING = {"image": ("i1", "i4", "i7"), "text": ("i2", "i4")}
VARIANTS = [
    *((model, {}) for model in (*multimodal_models(), "BPR")),
    ("LightGCN", {"reg_weight": 1.0}),
    ("MICRO", {"contrastive_items": "batch"}),
    ("VBPR", {"penalty": "squared"}),
    ("VBPR", {"penalty": "frobenius"}),
    ("MARGO", {"backbone": "LightGCN"}),
    ("MARGO", {"evidence": "held_out"}),
    (
        "MARGO",
        {
            "evidence_scale": "standardized",
            "keep_optimizer": True,
            "weight_warmup_epochs": 1,
            "score_scale": 0.5,
        },
    ),
    ("LATTICE", {"graph_refresh": "batch"}),
    ("GRCN", {"routing": "paper"}),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WORLD.write(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WORLD.without(MISSING).write(tmp_path_factory.mktemp("gaps"))


def gradient(experiment, triplets, loss=None) -> torch.Tensor:
    """Return the gradient of a batch's loss on all parameters, in one vector.

    Args:
        experiment: the model and its data.
        triplets: the batch.
        loss: of a batch; none: the model's.
    """
    torch.manual_seed(3)
    experiment.model.train()
    experiment.model.zero_grad()
    if hasattr(experiment.model, "begin_epoch"):
        experiment.model.begin_epoch(0)
    terms = (loss or experiment.model.calculate_loss)(experiment.batch(triplets))
    torch.stack(
        [t.reshape(()) for t in (terms if isinstance(terms, tuple) else (terms,))]
    ).sum().backward()
    parts = [
        (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
        for p in experiment.model.parameters()
    ]
    return torch.cat(parts).double()


@pytest.mark.parametrize("world", ["whole", "gaps"])
@pytest.mark.parametrize(("model", "settings"), VARIANTS, ids=str)
def test_a_loss_is_said_to_fall_into_shares_exactly_if_it_does(model, settings, world, request):
    experiment = prepare(request.getfixturevalue(world), model, **settings)
    experiment.randomize()
    triplets = experiment.random_triplets(15)
    processes = [Processes(rank, 2) for rank in range(2)]
    shares = [triplets[each.share_of(len(triplets))] for each in processes]
    parts = sum(len(share) / 15 * gradient(experiment, share) for share in shares)
    expected = gradient(experiment, triplets)
    error = float((parts - expected).abs().max() / expected.abs().max())
    if shares_batches(experiment.model):
        assert error < 1e-5
    else:
        assert error > 1e-4
