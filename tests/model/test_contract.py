"""What every multimodal model promises; a new model in the registry is tested without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from worlds import MISSING, Experiment, block_world, prepare, random_world

from recbole_margo.defaults import properties_folder, read_yaml
from recbole_margo.registry import multimodal_models
from recbole_margo.training.checkpoint import read_checkpoint

MODELS = {name: (name, {}) for name in multimodal_models()}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "MARGO on LightGCN": ("MARGO", {"backbone": "LightGCN"}),
    "MARGO w/o weight": ("MARGO", {"item_weights": False}),
    "MARGO w/o L_cal": ("MARGO", {"alpha": 0.0}),
    "MARGO w/o two-stage": ("MARGO", {"two_stage": False}),
    "MARGO w/o nograd": ("MARGO", {"stop_gradient": False}),
    "MARGO on held-out evidence": ("MARGO", {"evidence": "held_out"}),
    "MARGO on text": ("MARGO", {"modalities": ["text"]}),
}
# What a model needs beyond the settings that let the others learn the block world.
TO_LEARN_BLOCKS: dict[str, dict[str, Any]] = {
    # Without negatives nothing drives the blocks apart but the cosines, which takes more steps.
    "BM3": {"epochs": 30},
}
each_model = pytest.mark.parametrize("model", MODELS)
each_case = pytest.mark.parametrize("case", [*MODELS, *VARIANTS])


def build(root: Path, case: str, **settings: Any) -> Experiment:
    model, of_case = {**MODELS, **VARIANTS}[case]
    return prepare(root, model, **{**of_case, **settings})


def fit(experiment: Experiment) -> Any:
    trainer = experiment.trainer()
    trainer.fit(*experiment.loaders[:2], verbose=False)
    return trainer


def each_stage(experiment: Experiment):
    """Begin one stage of the model after another."""
    for stage in experiment.model.training_stages:
        experiment.model.begin_stage(stage)
        experiment.model.train()
        yield stage


@each_case
def test_every_trained_parameter_gets_a_gradient(tmp_path, case):
    experiment = build(random_world().write(tmp_path), case)
    names = {id(parameter): name for name, parameter in experiment.model.named_parameters()}
    trained = set()
    for _ in each_stage(experiment):
        parameters = [
            parameter
            for group in experiment.model.parameter_groups(0.01)
            for parameter in group["params"]
        ]
        assert len({id(parameter) for parameter in parameters}) == len(parameters)
        experiment.model.zero_grad()
        terms = experiment.model.calculate_loss(experiment.batch(experiment.random_triplets(200)))
        terms = terms if isinstance(terms, tuple) else (terms,)
        torch.stack(terms).sum().backward()
        for parameter in parameters:
            # One modality has weight 1 whatever its logit.
            if case == "MARGO on text" and names[id(parameter)] == "weight_logits":
                continue
            assert parameter.grad is not None and parameter.grad.any(), names[id(parameter)]
        trained.update(names[id(parameter)] for parameter in parameters)
    left_out = {"weight_logits"} if case == "MARGO w/o weight" else set()
    assert trained == set(names.values()) - left_out


@each_model
def test_losses_are_named(tmp_path, model):
    experiment = build(random_world().write(tmp_path), model)
    for _ in each_stage(experiment):
        terms = experiment.model.calculate_loss(experiment.batch(experiment.random_triplets()))
        terms = terms if isinstance(terms, tuple) else (terms,)
        assert len(terms) == len(experiment.model.loss_names)
        assert all(term.ndim == 0 for term in terms)


@each_case
def test_the_held_out_item_of_a_block_world_ranks_first(tmp_path, case):
    world = block_world()
    settings = {
        "epochs": 8,
        "eval_step": 4,
        "learning_rate": 0.05,
        "train_batch_size": 64,
        "topk": [1],
        "valid_metric": "Recall@1",
        **TO_LEARN_BLOCKS.get(case, {}),
    }
    experiment = build(world.write(tmp_path), case, **settings)
    trainer = fit(experiment)
    scores = experiment.all_scores()
    for user in experiment.user_tokens[1:]:
        (held_out,) = world.items_of(user, "test")
        row = scores[experiment.user_ids([user])[0]].copy()
        row[experiment.item_ids(sorted(world.items_of(user, "train")))] = -np.inf
        row[0] = -np.inf
        assert experiment.item_tokens[int(row.argmax())] == held_out
    assert trainer.evaluate(experiment.loaders[2], load_best_model=False)["recall@1"] == 1


@each_case
def test_full_sort_predict_equals_predict(tmp_path, case):
    experiment = build(random_world(3).write(tmp_path), case)
    users, items = experiment.dataset.user_num, experiment.dataset.item_num
    pairs = experiment.interaction(
        user=np.repeat(np.arange(users), items), item=np.tile(np.arange(items), users)
    )
    for _ in each_stage(experiment):
        in_training = experiment.scores_now()
        experiment.model.eval()
        with torch.no_grad():
            one_by_one = experiment.model.predict(pairs).view(users, items)
        assert_allclose(experiment.scores_now(), one_by_one, rtol=1e-5, atol=1e-6)
        assert_allclose(in_training, one_by_one, rtol=1e-5, atol=1e-6)


@each_case
def test_pad_is_never_recommended(tmp_path, case, monkeypatch):
    from recbole.utils.case_study import full_sort_topk

    world = random_world()
    experiment = build(world.write(tmp_path), case)
    trainer, test = experiment.trainer(), experiment.loaders[2]
    seen: list[torch.Tensor] = []
    collect = trainer.eval_collector.eval_batch_collect

    def watching(scores, *others):
        seen.append(scores.topk(5).indices)
        collect(scores, *others)

    monkeypatch.setattr(trainer.eval_collector, "eval_batch_collect", watching)
    trainer.evaluate(test, load_best_model=False)
    assert seen[0].shape == (20, 5) and (seen[0] > 0).all()

    users = experiment.user_ids(experiment.user_tokens[1:])
    candidates = 15 - 5  # all but those of training and validation
    _, top = full_sort_topk(users, experiment.model, test, candidates)
    assert (top > 0).all()
    for user, row in zip(users, top, strict=True):
        known = world.items_of(experiment.user_tokens[user], "train", "valid")
        assert known.isdisjoint(experiment.item_tokens[item] for item in row)


@each_case
def test_the_batch_is_not_modified(tmp_path, case):
    experiment = build(random_world().write(tmp_path), case)
    batch = experiment.batch(experiment.random_triplets())
    before = {field: column.clone() for field, column in batch.interaction.items()}
    for _ in each_stage(experiment):
        experiment.model.calculate_loss(batch)
        experiment.model.predict(batch)
        experiment.model.full_sort_predict(batch)
        assert set(batch.interaction) == set(before)
        for field, column in batch.interaction.items():
            assert_array_equal(column, before[field])


@each_case
def test_relabelling_items_only_relabels_scores(tmp_path, case):
    world = random_world().without(MISSING["some items miss one"])
    one = build(world.write(tmp_path / "one"), case)
    other = build(world.with_items_reordered(7).write(tmp_path / "other"), case)
    assert one.user_tokens == other.user_tokens
    assert one.item_tokens != other.item_tokens
    of_other = [0, *one.item_ids(other.item_tokens[1:])]
    for stage in each_stage(one):
        other.model.begin_stage(stage)
        one.randomize()
        relabelled = {
            name: value[of_other] if len(value) == one.dataset.item_num else value
            for name, value in one.model.state_dict().items()
        }
        other.model.load_state_dict(relabelled)
        assert_allclose(other.all_scores(), one.all_scores()[:, of_other], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("case", [*MODELS, "MARGO on LightGCN", "MARGO w/o nograd"])
def test_any_pattern_of_missing_modalities_gives_finite_numbers(tmp_path, case, missing):
    experiment = build(random_world(3).without(MISSING[missing]).write(tmp_path), case, epochs=1)
    for _ in each_stage(experiment):
        terms = experiment.model.calculate_loss(experiment.batch(experiment.random_triplets(100)))
        torch.stack(terms if isinstance(terms, tuple) else (terms,)).sum().backward()
        assert all(
            torch.isfinite(parameter.grad).all()
            for parameter in experiment.model.parameters()
            if parameter.grad is not None
        )
        assert np.isfinite(experiment.all_scores()).all()
    fit(experiment)
    assert np.isfinite(experiment.all_scores()).all()


@each_case
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path, case):
    root = random_world().write(tmp_path)
    runs = []
    for seed in (3, 3, 4):
        experiment = build(root, case, seed=seed, epochs=1)
        trainer = fit(experiment)
        runs.append((experiment.all_scores(), [stage.best_result for stage in trainer.progress]))
    assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert (runs[0][0] != runs[2][0]).any()


@each_case
def test_saved_and_loaded_gives_equal_scores(tmp_path, case):
    root = random_world().write(tmp_path)
    experiment = build(root, case, seed=3, epochs=2)
    trainer = fit(experiment)
    scores, test = experiment.all_scores(), trainer.evaluate_unrounded(experiment.loaders[2])

    by_trainer = build(root, case, seed=4)
    found = by_trainer.trainer().evaluate_unrounded(
        by_trainer.loaders[2], str(trainer.saved_model_file)
    )
    assert found == test
    assert_array_equal(by_trainer.all_scores(), scores)

    by_hand = build(root, case, seed=4)
    state = read_checkpoint(Path(trainer.saved_model_file))
    by_hand.model.load_state_dict(state["state_dict"])
    by_hand.model.load_other_parameter(state["other_parameter"])
    assert_array_equal(by_hand.all_scores(), scores)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_case
def test_cpu_and_cuda_agree(tmp_path, case):
    root = random_world(3).without(MISSING["some items miss one"]).write(tmp_path)
    cpu = build(root, case)
    cuda = build(root, case, use_gpu=True)
    assert cuda.config["device"].type == "cuda"
    triplets = cpu.random_triplets()
    for stage in each_stage(cpu):
        cuda.model.begin_stage(stage)
        cuda.model.load_state_dict(cpu.model.state_dict())
        gradients = []
        for experiment in (cpu, cuda):
            experiment.model.zero_grad()
            terms = experiment.model.calculate_loss(experiment.batch(triplets))
            torch.stack(terms if isinstance(terms, tuple) else (terms,)).sum().backward()
            gradients.append(
                {
                    name: parameter.grad.cpu()
                    for name, parameter in experiment.model.named_parameters()
                    if parameter.grad is not None
                }
            )
        assert gradients[0].keys() == gradients[1].keys()
        for name, gradient in gradients[0].items():
            assert_allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-5, err_msg=name)
        assert_allclose(cuda.all_scores(), cpu.all_scores(), rtol=1e-4, atol=1e-5)
    fit(cuda)
    assert np.isfinite(cuda.all_scores()).all()


# --- what is written about a model ----------------------------------------------------------------


@each_model
def test_yaml_keys_equal_the_typed_fields(model):
    values = read_yaml(properties_folder() / "model" / f"{model}.yaml")
    parameters = multimodal_models()[model].load().parameters_class
    assert list(values) == list(parameters.descriptions())
    parameters.from_config(dict(values), model)


@each_model
def test_every_hyperparameter_says_what_it_means(model):
    descriptions = multimodal_models()[model].load().parameters_class.descriptions()
    for name, description in descriptions.items():
        assert len(description.meaning) > 10, name
        if isinstance(description.search, tuple):
            low, high, scale = description.search
            assert low < high and scale in ("log", "linear"), name
            description.check(name, low)
            description.check(name, high)
        for value in description.search if isinstance(description.search, list) else []:
            description.check(name, value)


@each_model
def test_the_paper_is_cited(model):
    model_class = multimodal_models()[model].load()
    paper = model_class.paper
    assert paper.title and paper.authors and paper.venue
    assert 2000 < paper.year < 2100
    assert paper.link.startswith("https://")
    text = " ".join((model_class.__doc__ or "").split())
    assert "Source:" in text and "Departures from the paper:" in text
    assert str(paper.year) in text and paper.title in text
    assert ".. math::" in text
