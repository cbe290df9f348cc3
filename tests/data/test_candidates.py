"""A sampled evaluation compares models on the same candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recbole.data.dataloader import NegSampleEvalDataLoader

from recbole_margo import resume_run, run_recbole_margo
from recbole_margo.errors import ConfigError
from recbole_margo.testing import NAME, Experiment, World, prepare, random_world
from recbole_margo.training.trainer import MultimodalTrainer

K = 3


def settings(mode: str = "uni4", **changes: Any) -> dict[str, Any]:
    shared = {"topk": [K], "valid_metric": f"Recall@{K}", "eval_args": {"mode": mode}}
    return {**shared, "epochs": 2, "seed": 1, **changes}


@pytest.fixture
def world() -> World:
    return random_world().with_several_positives()


@pytest.fixture
def root(world: World, tmp_path: Path) -> Path:
    return world.write(tmp_path / "data")


Candidates = dict[str, list[str]]


def candidates_of(loader: Any) -> Candidates:
    """Return user token -> tokens of what is ranked beside the positives, in their order."""
    part = loader._dataset
    found: Candidates = {}
    for interaction, rows, _, _ in loader:
        labels = interaction[loader.label_field]
        for row in rows.unique():
            own = rows == row
            user = part.id2token(part.uid_field, int(interaction[part.uid_field][own][0]))
            items = interaction[part.iid_field][own & (labels == 0)]
            found[str(user)] = [str(t) for t in part.id2token(part.iid_field, items.numpy())]
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Every batch that loaders of a sampled evaluation give: their users and their items."""
    seen: list[tuple[int, bytes]] = []
    collate = NegSampleEvalDataLoader.collate_fn

    def remember(loader: Any, index: Any) -> Any:
        batch = collate(loader, index)
        seen.append((loader._sampler.phase, batch[0][loader.iid_field].numpy().tobytes()))
        return batch

    monkeypatch.setattr(NegSampleEvalDataLoader, "collate_fn", remember)
    return seen


@pytest.mark.parametrize("mode", ["uni4", "pop4"])
def test_every_model_ranks_the_same_candidates_at_every_epoch(
    root: Path, tmp_path: Path, read: list[tuple[str, bytes]], mode: str
) -> None:
    """LightGCN's training has an exponent of its own, MARGO trains in two stages."""
    for model in ("MARGO", "VBPR", "BPR", "LightGCN", "NeuMF"):
        changes: dict[str, Any] = {"data_path": str(root), "use_gpu": False}
        if model == "LightGCN":
            changes["train_neg_sample_args"] = {
                "distribution": "popularity",
                "sample_num": 1,
                "alpha": 0.3,
                "dynamic": False,
                "candidate_num": 0,
            }
        metrics = {"metrics": ["Recall", "NDCG"]}
        run_recbole_margo(
            model, NAME, config_dict=settings(mode, **changes, **metrics), output_dir=tmp_path / "o"
        )
    assert len([phase for phase, _ in read if phase == "valid"]) >= 2 * 5
    assert len({items for phase, items in read if phase == "valid"}) == 1
    assert len({items for phase, items in read if phase == "test"}) == 1


def test_candidates_are_those_of_the_split_seed(root: Path) -> None:
    def drawn(**changes: Any) -> list[Candidates]:
        return [
            candidates_of(each) for each in prepare(root, "VBPR", **settings(**changes)).loaders[1:]
        ]

    first = drawn(split_seed=7)
    assert first == drawn(split_seed=7, seed=9)
    assert first != drawn(split_seed=8)
    assert drawn(seed=7) == first, "without a seed of its own a split has that of the run"
    assert first[0] != first[1]


def test_a_user_keeps_the_candidates_whoever_else_is_evaluated(
    world: World, tmp_path: Path
) -> None:
    before = candidates_of(prepare(world.write(tmp_path / "a"), "VBPR", **settings()).loaders[2])
    world.splits["test"][:] = [pair for pair in world.splits["test"] if pair[0] != "u0"]
    after = candidates_of(prepare(world.write(tmp_path / "b"), "VBPR", **settings()).loaders[2])
    del before["u0"]
    assert after == before


@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
@pytest.mark.parametrize("mode", ["uni60", "pop60"])
def test_what_is_masked_is_no_candidate_and_all_else_may_be(
    world: World, root: Path, mode: str, protocol: str
) -> None:
    loaders = prepare(root, "VBPR", **settings(mode, eval_protocol=protocol)).loaders
    masked_in = {
        "valid": ("train", "valid"),
        "test": ("train", "test") if protocol == "mmrec" else ("train", "valid", "test"),
    }
    everything = {item for part in world.splits.values() for _, item in part}
    for part, loader in zip(("valid", "test"), loaders[1:], strict=True):
        found = candidates_of(loader)
        positives = {user: world.items_of(user, part) for user, _ in world.splits[part]}
        assert set(found) == set(positives)
        for user, items in found.items():
            assert len(items) == 60 * len(positives[user])
            assert not set(items) & world.items_of(user, *masked_in[part])
        if mode == "uni60":
            left = {u: everything - world.items_of(u, *masked_in[part]) for u in found}
            assert {user: set(items) for user, items in found.items()} == left


def test_popular_items_are_candidates_more_often(tmp_path: Path) -> None:
    world = random_world()
    for user in range(1, 20):  # i0 is somebody's 19 times; u0 never meets it
        world.splits["train"].append((f"u{user}", "i0"))
    for part in world.splits.values():
        part[:] = [pair for pair in part if pair != ("u0", "i0")]
    root = world.write(tmp_path)
    drawn = candidates_of(prepare(root, "VBPR", **settings("pop400")).loaders[2])["u0"]
    pairs = {pair for part in world.splits.values() for pair in part}
    known = world.items_of("u0", "train", "valid", "test")
    counts = {item: sum(each == item for _, each in pairs) for _, item in pairs}
    share = counts["i0"] / sum(n for item, n in counts.items() if item not in known)
    assert drawn.count("i0") / len(drawn) == pytest.approx(share, abs=0.07)


def recomputed(experiment: Experiment, loader: Any, world: World, part: str) -> dict[str, float]:
    """Return Recall and NDCG of the ranking of positives and candidates, a user at a time."""
    scores = experiment.all_scores()
    recalls, gains = [], []
    for user, items in candidates_of(loader).items():
        positives = world.items_of(user, part)
        pool = sorted(set(items) | positives)
        [row] = experiment.user_ids([user])
        order = np.argsort(-scores[row, experiment.item_ids(pool)], kind="stable")[:K]
        hits = np.array([pool[place] in positives for place in order], dtype=float)
        hits = np.pad(hits, (0, K - len(hits)))
        discount = 1 / np.log2(np.arange(2, K + 2))
        recalls.append(hits.sum() / len(positives))
        gains.append((hits * discount).sum() / discount[: len(positives)].sum())
    return {f"recall@{K}": float(np.mean(recalls)), f"ndcg@{K}": float(np.mean(gains))}


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
def test_metrics_are_those_of_the_candidates(
    world: World, root: Path, model: str, protocol: str
) -> None:
    experiment = prepare(root, model, **settings("uni6", eval_protocol=protocol))
    experiment.randomize()
    trainer = experiment.trainer()
    trainer.eval_collector.data_collect(experiment.loaders[0])
    for part, loader in zip(("valid", "test"), experiment.loaders[1:], strict=True):
        result = trainer.evaluate(loader, load_best_model=False)
        assert result == pytest.approx(recomputed(experiment, loader, world, part), abs=1e-4)


def test_an_evaluation_takes_no_random_numbers_from_training(root: Path) -> None:
    experiment = prepare(root, "VBPR", **settings())
    before = np.random.get_state()
    candidates_of(experiment.loaders[2])
    assert all(np.array_equal(a, b) for a, b in zip(before, np.random.get_state(), strict=True))


def test_a_resumed_run_ends_as_an_uninterrupted_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = settings(data_path=str(root), use_gpu=False, metrics=["Recall", "NDCG"])
    whole = run_recbole_margo("VBPR", NAME, config_dict=values, output_dir=tmp_path / "whole")
    validate = MultimodalTrainer._validate

    def interrupted(trainer: Any, stage: Any, fit: Any, step: int) -> None:
        if stage.epochs == 2:
            raise KeyboardInterrupt
        validate(trainer, stage, fit, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MultimodalTrainer, "_validate", interrupted)
        run_recbole_margo("VBPR", NAME, config_dict=values, output_dir=tmp_path / "half")
    resumed = resume_run(tmp_path / "half" / "VBPR" / "checkpoint-last.pth")
    assert (resumed["valid"], resumed["test"]) == (whole["valid"], whole["test"])


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
def test_a_user_without_any_candidate_is_named(tmp_path: Path, model: str) -> None:
    """Nobody waits for a draw that cannot come."""
    world = random_world()
    known = world.items_of("u3", "train", "valid", "test")
    world.splits["train"] += [("u3", f"i{item}") for item in range(15) if f"i{item}" not in known]
    with pytest.raises((ConfigError, ValueError), match=r"u3.*no negative can be drawn"):
        prepare(world.write(tmp_path), model, **settings())


def test_repeated_consumption_keeps_only_the_positives_out(world: World, root: Path) -> None:
    loader = prepare(root, "VBPR", **settings("uni60", repeatable=True)).loaders[2]
    found = candidates_of(loader)
    assert found == candidates_of(loader)
    assert any(set(items) & world.items_of(user, "train") for user, items in found.items())
