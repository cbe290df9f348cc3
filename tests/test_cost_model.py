from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost_model import CostModel, table
from recbole_margo.testing import prepare, random_world

USERS, ITEMS, BATCH = 20, 15, 12


@pytest.fixture
def experiment(tmp_path):
    return prepare(random_world(2, users=USERS, items=ITEMS).write(tmp_path), "MARGO")


def cost_model(model) -> CostModel:
    parameters = model.hyperparameters
    return CostModel(
        users=model.n_users,
        items=model.n_items,
        interactions=model.interactions.nnz,
        columns=tuple(matrix.shape[1] for matrix in model.features),
        batch=BATCH,
        embedding=parameters.embedding_size,
        hidden=parameters.projection_size,
        co_users=parameters.user_neighbors,
        item_neighbors=parameters.item_neighbors,
    )


def test_the_parameters_are_those_that_the_model_trains(experiment):
    trained = sum(parameter.numel() for parameter in experiment.model.parameters())
    assert cost_model(experiment.model).parameters == trained


def test_the_operations_of_the_projections_are_those_that_torch_counts(experiment):
    model = experiment.model
    with FlopCounterMode(display=False) as counter:
        terms = model.calculate_loss(experiment.batch(experiment.random_triplets(BATCH)))
        torch.stack(terms).sum().backward()
    # The sparse products are no matrix products to torch's counter; the rest here are projections.
    assert counter.get_total_flops() == cost_model(model).operations()["projection"]


def test_features_and_the_symmetric_graph_have_the_bytes_that_are_held(experiment):
    model, memory = experiment.model, cost_model(experiment.model).memory()
    assert memory["features"] == sum(matrix.nbytes for matrix in model.features)
    graph = model.backbone.interaction_graph
    entries = sum(part.nbytes for name, part in graph.named_buffers() if "row_pointer" not in name)
    without_it = dataclasses.replace(cost_model(model), interactions=0).memory()["graphs"]
    assert memory["graphs"] - without_it == entries


def test_an_epoch_is_linear_in_items_and_a_step_in_interactions():
    base = CostModel(1000, 500, 10_000, (64, 32))
    graph = [dataclasses.replace(base, interactions=n * 10_000).operations() for n in (1, 2, 4)]
    assert [each["graph"] / graph[0]["graph"] for each in graph] == [1, 2, 4]
    items = [dataclasses.replace(base, items=n * 500).operations() for n in (1, 2, 4)]
    assert [each["projection"] / items[0]["projection"] for each in items] == [1, 2, 4]


def test_the_table_has_a_row_per_shape_and_a_faster_machine_takes_less():
    slow, fast = table(1e11, 1e10), table(2e11, 2e10)
    assert [row[0].text for row in slow.rows] == [row[0].text for row in fast.rows]
    model = CostModel(1000, 500, 10_000, (64, 32))
    assert model.seconds(1e11, 1e10) == pytest.approx(2 * model.seconds(2e11, 2e10))
