from __future__ import annotations

import dense_refined as dense
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional

from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world

WEIGHTS = {"contrastive_weight": 0.2, "reg_weight": 0.3, "global_weight": 0.7}
SIZES = {"hypergraph_layers": 2, "hyperedges": 5, "keep_rate": 0.6}
TAU = 0.3


def build(tmp_path, modalities=2, missing="nothing missing", **settings):
    """Return a world and LGMRec on it, with parameters far from where they start."""
    world = random_world(modalities).without(MISSING[missing])
    settings = {**WEIGHTS, **SIZES, "contrastive_temperature": TAU, **settings}
    experiment = prepare(world.write(tmp_path), "LGMRec", **settings)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.normal_(std=0.5)
    return world, experiment


@pytest.fixture
def drawn(monkeypatch) -> list[dense.Draws]:
    """Let noise and dropout of the next assignments be known, in the order of the modalities."""
    random = np.random.default_rng(5)
    draws: list[dense.Draws] = []
    calls = {"gumbel": 0, "dropout": 0}

    def slot(kind: str) -> tuple[dense.Draws, str]:
        # Items first, then users, one modality after another.
        number, side = divmod(calls[kind], 2)
        calls[kind] += 1
        while len(draws) <= number:
            draws.append(dense.Draws())
        return draws[number], ("items", "users")[side]

    def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
        assert not hard and dim == 1
        noise = random.gumbel(size=tuple(logits.shape))
        draw, side = slot("gumbel")
        setattr(draw, f"noise_of_{side}", noise)
        return torch.softmax((logits + torch.as_tensor(noise, dtype=logits.dtype)) / tau, dim=1)

    def dropout(shares, p=0.5, training=True, inplace=False):
        if not training:
            return shares
        kept = (random.random(tuple(shares.shape)) >= p) / (1 - p)
        draw, side = slot("dropout")
        setattr(draw, f"kept_{side}", kept)
        return shares * torch.as_tensor(kept, dtype=shares.dtype)

    monkeypatch.setattr(functional, "gumbel_softmax", gumbel_softmax)
    monkeypatch.setattr(functional, "dropout", dropout)
    return draws


def sizes_of(experiment: Experiment) -> dense.LGMRecSizes:
    names = dense.LGMRecSizes.__dataclass_fields__
    return dense.LGMRecSizes(**{name: experiment.config[name] for name in names})


def dense_terms(experiment: Experiment, world: World, triplets, draws=None, parameters=None):
    """Return the three terms, for given draws or none."""
    users, items, hypergraphs = dense.lgmrec(
        dense_inputs(experiment, world),
        experiment.parameters() if parameters is None else parameters,
        sizes_of(experiment),
        draws,
    )
    tau, kind = experiment.config["contrastive_temperature"], experiment.config["penalty"]
    mask = dense_inputs(experiment, world).mask
    contrast = dense.contrast_of_pairs(hypergraphs, mask, triplets, tau)
    penalty = dense.batch_penalty(users, items, triplets, kind)
    return (
        dense.ranking(users, items, triplets),
        WEIGHTS["contrastive_weight"] * contrast,
        WEIGHTS["reg_weight"] * penalty,
    )


def assert_scores_equal_the_dense_ones(experiment: Experiment, world: World) -> None:
    users, items, _ = dense.lgmrec(
        dense_inputs(experiment, world), experiment.parameters(), sizes_of(experiment)
    )
    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=2e-5)


# --- the whole model ------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_every_loss_term_equals_the_dense_formula_given_noise_and_dropout(
    tmp_path, drawn, modalities, missing
):
    world, experiment = build(tmp_path, modalities, missing)
    triplets = experiment.random_triplets()
    found = experiment.loss_terms(triplets)
    assert experiment.model.loss_names == ("recommendation", "contrast", "regularization")
    assert len(drawn) == modalities
    expected = dense_terms(experiment, world, triplets, drawn)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_equal_the_dense_formula_without_noise(tmp_path, modalities, missing):
    world, experiment = build(tmp_path, modalities, missing)
    assert_scores_equal_the_dense_ones(experiment, world)


@pytest.mark.parametrize(
    "settings",
    [
        {"penalty": "squared"},
        {"penalty": "frobenius"},
        {"hypergraph_layers": 1},
        {"hypergraph_layers": 3},
        {"interaction_layers": 0, "modality_layers": 1},
        {"interaction_layers": 3, "modality_layers": 0},
        {"assignment_temperature": 1.0, "hyperedges": 1},
        {"contrastive_temperature": 1.0},
        {"keep_rate": 1.0},
    ],
    ids=str,
)
def test_every_switch_does_what_the_dense_formula_does(tmp_path, drawn, settings):
    world, experiment = build(tmp_path, 3, "some items miss one", **settings)
    triplets = experiment.random_triplets()
    found = experiment.loss_terms(triplets)
    expected = dense_terms(experiment, world, triplets, drawn)
    assert found == pytest.approx(expected, rel=1e-5)
    assert_scores_equal_the_dense_ones(experiment, world)


@pytest.mark.parametrize("penalty", ["frobenius", "squared"])
def test_gradients_equal_finite_differences_of_the_dense_formula(
    tmp_path, drawn, double_precision, penalty
):
    world, experiment = build(tmp_path, 2, "some items miss one", penalty=penalty)
    model = experiment.model.double()
    triplets = experiment.random_triplets(25)
    torch.stack(model.calculate_loss(experiment.batch(triplets))).sum().backward()

    parameters = experiment.parameters()
    random = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        for _ in range(3):
            place = tuple(random.integers(min(1, size - 1), size) for size in parameter.shape)
            values = []
            for step in (1e-6, -1e-6):
                moved = {key: value.copy() for key, value in parameters.items()}
                moved[name][place] += step
                values.append(sum(dense_terms(experiment, world, triplets, drawn, moved)))
            expected = (values[0] - values[1]) / 2e-6
            found = parameter.grad[place].item()
            # The interaction graph is stored in float32.
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6), (name, place)


# --- the contrast ---------------------------------------------------------------------------------


@pytest.fixture
def no_noise(monkeypatch) -> None:
    monkeypatch.setattr(
        functional,
        "gumbel_softmax",
        lambda logits, tau=1, hard=False, eps=1e-10, dim=-1: torch.softmax(logits / tau, dim=dim),
    )


def test_one_modality_has_no_contrast(tmp_path):
    _, experiment = build(tmp_path, 1)
    assert experiment.loss_terms(experiment.random_triplets())[1] == 0


def test_the_contrast_is_summed_over_the_batch_and_the_ranking_is_not(tmp_path, no_noise):
    _, experiment = build(tmp_path, keep_rate=1.0)
    triplets = experiment.random_triplets()
    once, twice = experiment.loss_terms(triplets), experiment.loss_terms(triplets * 2)
    assert twice[0] == pytest.approx(once[0], rel=1e-6)
    assert twice[1] == pytest.approx(2 * once[1], rel=1e-6)


def test_three_modalities_are_contrasted_in_all_pairs(tmp_path, no_noise):
    world, experiment = build(tmp_path, 3, keep_rate=1.0)
    triplets = experiment.random_triplets()
    users, positives, _ = zip(*triplets, strict=True)
    *_, hypergraphs = dense.lgmrec(
        dense_inputs(experiment, world), experiment.parameters(), sizes_of(experiment)
    )
    (y_1, x_1), (y_2, x_2), (y_3, x_3) = hypergraphs
    of_users = [dense.contrast(a, b, users, TAU) for a, b in ((y_1, y_2), (y_1, y_3), (y_2, y_3))]
    of_items = [
        dense.contrast(a, b, positives, TAU) for a, b in ((x_1, x_2), (x_1, x_3), (x_2, x_3))
    ]
    assert experiment.loss_terms(triplets)[1] == pytest.approx(
        WEIGHTS["contrastive_weight"] * sum(of_users + of_items), rel=1e-5
    )


@pytest.mark.parametrize("users", [0, 5])
def test_everybody_is_a_candidate_but_pad(tmp_path, no_noise, users):
    """With equal embeddings everywhere, the loss is the logarithm of the number of candidates."""
    world = random_world(2, users=20 + users)
    experiment = prepare(
        world.write(tmp_path), "LGMRec", contrastive_weight=1.0, keep_rate=1.0, hyperedges=1
    )
    with torch.no_grad():
        experiment.model.user_embedding.fill_(1)
        experiment.model.item_embedding.fill_(1)
    triplets = experiment.random_triplets(10)
    expected = 10 * (np.log(20 + users) + np.log(15))
    assert experiment.loss_terms(triplets)[1] == pytest.approx(expected, rel=1e-5)


# --- noise ----------------------------------------------------------------------------------------


def changes_from_call_to_call(experiment: Experiment) -> bool:
    return (experiment.all_scores() != experiment.all_scores()).any()


def test_evaluation_is_deterministic_by_default_and_in_training_mode_too(tmp_path):
    _, experiment = build(tmp_path)
    assert not changes_from_call_to_call(experiment)
    in_evaluation = experiment.all_scores()
    experiment.model.train()
    assert_array_equal(experiment.scores_now(), in_evaluation)


def test_evaluation_draws_nothing_by_default(tmp_path):
    _, experiment = build(tmp_path)
    before = torch.get_rng_state()
    experiment.all_scores()
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_with_gumbel_noise_differs_from_call_to_call(tmp_path):
    _, experiment = build(tmp_path, evaluation_noise="gumbel")
    assert changes_from_call_to_call(experiment)


def test_evaluation_with_gumbel_noise_equals_the_dense_formula_and_drops_nothing(tmp_path, drawn):
    world, experiment = build(tmp_path, evaluation_noise="gumbel")
    scores = experiment.all_scores()
    assert len(drawn) == 2 and all(np.ndim(draw.kept_items) == 0 for draw in drawn)
    users, items, _ = dense.lgmrec(
        dense_inputs(experiment, world), experiment.parameters(), sizes_of(experiment), drawn
    )
    assert_allclose(scores, users @ items.T, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("keep_rate", [0.5, 1.0])
def test_gumbel_noise_acts_in_training(tmp_path, keep_rate):
    _, experiment = build(tmp_path, keep_rate=keep_rate)
    triplets = experiment.random_triplets()
    assert experiment.loss_terms(triplets) != experiment.loss_terms(triplets)


def test_dropout_takes_all_but_the_keep_rate(tmp_path, monkeypatch):
    _, experiment = build(tmp_path, keep_rate=0.7)
    rates = []
    monkeypatch.setattr(
        functional, "dropout", lambda shares, p, training: rates.append(p) or shares
    )
    experiment.loss_terms(experiment.random_triplets())
    # Items' and users' assignments of two modalities.
    assert rates == pytest.approx([0.3] * 4)


@pytest.mark.parametrize(("keep_rate", "differs"), [(0.5, True), (1.0, False)])
def test_dropout_acts_in_training_by_the_keep_rate(tmp_path, no_noise, keep_rate, differs):
    _, experiment = build(tmp_path, keep_rate=keep_rate)
    triplets = experiment.random_triplets()
    assert (experiment.loss_terms(triplets) != experiment.loss_terms(triplets)) is differs


# --- beginnings and missing modalities ------------------------------------------------------------


def test_tables_start_xavier_uniform(tmp_path):
    world = random_world(2, users=300, items=60)
    model = prepare(world.write(tmp_path), "LGMRec", embedding_size=64, hyperedges=40).model
    for table, rows, columns in (
        (model.user_embedding, 301, 64),
        (model.item_embedding, 61, 64),
        (model.projections[0], 4, 64),
        (model.projections[1], 5, 64),
        (model.hyperedges[0], 4, 40),
        (model.hyperedges[1], 5, 40),
    ):
        assert table.shape == (rows, columns)
        bound = np.sqrt(6 / (rows + columns))
        assert 0.96 * bound < table.abs().max().item() < bound
        assert table.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.1)
    assert len(list(model.parameters())) == 6


def test_an_item_that_misses_a_modality_belongs_to_none_of_its_hyperedges(tmp_path):
    _, experiment = build(tmp_path, 2, "some items miss one")
    with torch.no_grad():
        _, hypergraphs = experiment.model.embeddings(noise=False)
    users = experiment.dataset.user_num
    for m, modality in enumerate(("image", "text")):
        missing = experiment.item_ids(MISSING["some items miss one"][modality])
        items = hypergraphs[m][users:]
        assert not items[missing].any()
        others = np.setdiff1d(np.arange(1, len(items)), missing)
        assert items[others].any(dim=1).all()
