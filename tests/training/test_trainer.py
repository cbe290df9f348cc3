from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_margo.errors import ConfigError, TrainingError
from recbole_margo.testing import Experiment, World, prepare, random_world
from recbole_margo.training.stages import CHECK_EVERY
from recbole_margo.training.trainer import MultimodalTrainer

BATCHES = 5  # 80 training rows in batches of 16


@pytest.fixture
def root(tmp_path) -> Path:
    return random_world().write(tmp_path)


def build(root: Path, model: str = "MARGO", **settings: Any) -> tuple[Experiment, Any]:
    experiment = prepare(root, model, **settings)
    trainer = experiment.trainer()
    assert isinstance(trainer, MultimodalTrainer)
    trainer.saved_model_file = str(root / "saved" / "checkpoint.pth")
    return experiment, trainer


def script_scores(trainer: Any, monkeypatch: pytest.MonkeyPatch, *scores: float) -> None:
    """Let the validations of a trainer come out as given."""
    coming = iter(scores)
    monkeypatch.setattr(
        trainer, "evaluate_unrounded", lambda data, **others: {"recall@5": next(coming)}
    )


def copy_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def fit_and_watch(experiment: Experiment, trainer: Any, **others: Any) -> tuple[Any, list]:
    """Fit, and return what came back and the parameters after each validation."""
    states: list[dict[str, torch.Tensor]] = []
    result = trainer.fit(
        *experiment.loaders[:2],
        verbose=False,
        callback_fn=lambda epoch, score: states.append(copy_of(experiment.model.state_dict())),
        **others,
    )
    return result, states


def stored(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


# --- stages ---------------------------------------------------------------------------------------


def test_the_result_is_the_best_epoch_of_stage_2(root, monkeypatch):
    experiment, trainer = build(root)
    script_scores(trainer, monkeypatch, 0.1, 0.5, 0.3, 0.2, 0.4, 0.3)
    result, states = fit_and_watch(experiment, trainer)
    assert result == (0.4, {"recall@5": 0.4})
    first, second = trainer.progress
    assert (first.name, first.epochs, first.best_epoch, first.best_score) == ("stage1", 3, 1, 0.5)
    assert (second.name, second.epochs, second.best_epoch, second.best_score) == (
        "stage2",
        3,
        1,
        0.4,
    )
    assert first.finished and second.finished
    assert equal(experiment.model.state_dict(), states[4])
    assert equal(stored(Path(trainer.saved_model_file))["state_dict"], states[4])
    assert equal(stored(trainer.stage_model_file("stage1"))["state_dict"], states[1])


def test_stage_2_starts_from_the_best_of_stage_1_with_a_new_optimiser_and_new_logits(
    root, monkeypatch
):
    experiment, trainer = build(root, weight_learning_rate=0.5)
    script_scores(trainer, monkeypatch, 0.1, 0.5, 0.3, 0.2, 0.4, 0.3)
    seen: list[tuple[dict[str, torch.Tensor], Any]] = []
    fit_stage = trainer._fit_stage

    def watching(fit: Any) -> None:
        seen.append((copy_of(experiment.model.state_dict()), trainer.optimizer))
        assert not trainer.optimizer.state
        fit_stage(fit)

    monkeypatch.setattr(trainer, "_fit_stage", watching)
    _, states = fit_and_watch(experiment, trainer)

    (before_1, optimizer_1), (before_2, optimizer_2) = seen
    backbone = [name for name in before_2 if name.startswith("backbone.")]
    assert all(torch.equal(before_2[name], states[1][name]) for name in backbone)
    assert not all(torch.equal(before_2[name], states[2][name]) for name in backbone)
    assert not torch.equal(before_2["weight_logits"], before_1["weight_logits"])
    assert before_2["weight_logits"].abs().max() < 0.1
    assert optimizer_1 is not optimizer_2
    assert [group["lr"] for group in optimizer_1.param_groups] == [0.01]
    assert [group["lr"] for group in optimizer_2.param_groups] == [0.01, 0.5]
    # Stage 1 leaves the logits alone, stage 2 trains everything.
    assert torch.equal(states[2]["weight_logits"], before_1["weight_logits"])
    assert not any(torch.equal(before_2[name], states[3][name]) for name in before_2)


def test_each_stage_stops_early_on_its_own_strictly_unrounded_score(root, monkeypatch):
    experiment, trainer = build(root, epochs=50, stopping_step=1)
    # A tie waits, and a gain of 1e-9, which four decimals hide, does not.
    scores = [0.3, 0.3, 0.3 + 1e-9, 0.1, 0.2]
    script_scores(trainer, monkeypatch, *scores, 0.05, 0.05, 0.05)
    fit_and_watch(experiment, trainer)
    first, second = trainer.progress
    assert (first.epochs, first.best_epoch) == (5, 2)
    assert (second.epochs, second.best_epoch) == (3, 0)


@pytest.mark.parametrize(("second", "warned"), [(0.2, True), (0.3, False), (0.4, False)])
def test_a_stage_2_that_does_not_reach_stage_1_is_said(root, monkeypatch, caplog, second, warned):
    experiment, trainer = build(root, epochs=1)
    script_scores(trainer, monkeypatch, 0.3, second)
    with caplog.at_level(logging.WARNING):
        fit_and_watch(experiment, trainer)
    assert ("No epoch of stage2 reached" in caplog.text) is warned


def test_validation_every_other_epoch(root, monkeypatch):
    experiment, trainer = build(root, "DRAGON", epochs=5, eval_step=2)
    script_scores(trainer, monkeypatch, 0.1, 0.2)
    fit_and_watch(experiment, trainer)
    (stage,) = trainer.progress
    assert (stage.epochs, stage.best_epoch) == (5, 3)


def test_without_validation_the_last_epoch_is_kept(root):
    experiment, trainer = build(root, epochs=2)
    assert trainer.fit(experiment.loaders[0], verbose=False) == (-1, None)
    assert [stage.epochs for stage in trainer.progress] == [2, 2]
    saved = stored(Path(trainer.saved_model_file))
    assert equal(saved["state_dict"], experiment.model.state_dict())
    assert saved["other_parameter"] == {"stage": "stage2"}


def test_nothing_is_written_when_nothing_is_to_be_saved(root):
    experiment, trainer = build(root, epochs=1)
    fit_and_watch(experiment, trainer, saved=False)
    assert not list((root / "saved").glob("*"))


def test_the_best_parameters_are_restored_without_saving(root, monkeypatch):
    experiment, trainer = build(root, "DRAGON")
    script_scores(trainer, monkeypatch, 0.1, 0.5, 0.3)
    _, states = fit_and_watch(experiment, trainer, saved=False)
    assert equal(experiment.model.state_dict(), states[1])


def test_several_processes_are_refused(root):
    experiment = prepare(root, "MARGO")
    experiment.config["single_spec"] = False
    with pytest.raises(ConfigError, match="several processes"):
        MultimodalTrainer(experiment.config, experiment.model)


def test_gradients_are_clipped(root, monkeypatch):
    experiment, trainer = build(root, "DRAGON", epochs=1, clip_grad_norm={"max_norm": 1e-6})
    largest = []
    step = torch.optim.Adam.step

    def watching(optimizer: Any, *arguments: Any, **others: Any) -> Any:
        norms = [p.grad.norm() for g in optimizer.param_groups for p in g["params"]]
        largest.append(torch.stack(norms).norm().item())
        return step(optimizer, *arguments, **others)

    monkeypatch.setattr(torch.optim.Adam, "step", watching)
    fit_and_watch(experiment, trainer)
    assert len(largest) == BATCHES and max(largest) <= 1.01e-6


# --- losses that are no numbers -------------------------------------------------------------------


def spoil(experiment: Experiment, monkeypatch: Any, call: int, term: int, value: float) -> list:
    """Let one term of the loss of one batch, counted from 0 over the run, be `value`."""
    calls: list[int] = []
    original = experiment.model.calculate_loss

    def spoilt(interaction: Any) -> tuple[torch.Tensor, ...]:
        terms = list(original(interaction))
        if len(calls) == call:
            terms[term] = terms[term] * 0 + value
        calls.append(1)
        return tuple(terms)

    monkeypatch.setattr(experiment.model, "calculate_loss", spoilt)
    return calls


@pytest.mark.parametrize(
    ("call", "term", "value", "where"),
    [
        (2, 0, np.nan, "recommendation loss of MARGO became nan in stage stage1, epoch 1, batch 3"),
        (6, 1, np.inf, "regularization loss of MARGO became inf in stage stage1, epoch 2, batch 2"),
        (
            4 * BATCHES - 1,
            1,
            np.nan,
            "calibration loss of MARGO became nan in stage stage2, epoch 2, batch 5",
        ),
    ],
)
def test_a_loss_that_is_no_number_stops_and_says_where(root, monkeypatch, call, term, value, where):
    experiment, trainer = build(root, epochs=2)
    spoil(experiment, monkeypatch, call, term, value)
    with pytest.raises(TrainingError, match=where) as caught:
        fit_and_watch(experiment, trainer)
    assert str(trainer.last_model_file) in str(caught.value)
    last = stored(trainer.last_model_file)
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())


def test_a_long_epoch_does_not_go_on_for_long(root, monkeypatch):
    experiment, trainer = build(root, train_batch_size=1)
    calls = spoil(experiment, monkeypatch, 3, 0, np.nan)
    with pytest.raises(TrainingError, match="batch 4"):
        fit_and_watch(experiment, trainer)
    assert len(calls) == CHECK_EVERY < 80


# --- metrics --------------------------------------------------------------------------------------


def metrics_by_hand(experiment: Experiment, world: World, split: str, known: tuple[str, ...], k=5):
    """Return Recall@k and NDCG@k of the model's scores; one item a user is relevant."""
    scores = experiment.all_scores()
    recalls, ndcgs = [], []
    for user in experiment.user_tokens[1:]:
        (relevant,) = experiment.item_ids(sorted(world.items_of(user, split)))
        row = scores[experiment.user_ids([user])[0]].astype(np.float64)
        row[0] = -np.inf
        row[experiment.item_ids(sorted(world.items_of(user, *known)))] = -np.inf
        rank = int((row > row[relevant]).sum())
        recalls.append(float(rank < k))
        ndcgs.append(1 / np.log2(rank + 2) if rank < k else 0.0)
    return np.mean(recalls), np.mean(ndcgs)


def test_validation_is_unrounded_and_the_result_is_rounded_as_recbole_does(tmp_path):
    world = random_world(users=17, items=40)
    experiment, trainer = build(world.write(tmp_path), "DRAGON", epochs=2)
    score, result = trainer.fit(*experiment.loaders[:2], verbose=False)
    recall, ndcg = metrics_by_hand(experiment, world, "valid", ("train",))
    assert result == {
        "recall@5": pytest.approx(recall, abs=1e-14),
        "ndcg@5": pytest.approx(ndcg, abs=1e-14),
    }
    assert score == result["recall@5"]
    assert 0 < recall < 1  # seventeenths, which four decimals do not hold
    recall, ndcg = metrics_by_hand(experiment, world, "test", ("train", "valid"))
    assert trainer.evaluate(experiment.loaders[2]) == {
        "recall@5": round(recall, 4),
        "ndcg@5": round(ndcg, 4),
    }


def test_each_stage_can_be_tested_from_its_file(root):
    experiment, trainer = build(root)
    trainer.fit(*experiment.loaders[:2], verbose=False)
    for stage in trainer.progress:
        file = str(trainer.stage_model_file(stage.name))
        assert trainer.evaluate_unrounded(experiment.loaders[1], file) == stage.best_result
        assert experiment.model.stage == stage.name


# --- what is written ------------------------------------------------------------------------------


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) in (str, int) and is_plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(is_plain(part) for part in value)
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


def test_checkpoints_hold_tensors_and_plain_values_with_the_id_maps(root):
    experiment, trainer = build(root)
    trainer.fit(*experiment.loaders[:2], verbose=False)
    files = sorted(file.name for file in (root / "saved").iterdir())
    assert files == ["checkpoint-last.pth", "checkpoint-stage1.pth", "checkpoint.pth"]
    for file in files:
        state = stored(root / "saved" / file)
        assert is_plain(state)
        assert state["user_tokens"] == experiment.user_tokens
        assert state["item_tokens"] == experiment.item_tokens
        assert state["modalities"] == ["image", "text"]
        assert state["feature_checksums"] == experiment.model.feature_checksums
        assert set(state["state_dict"]) == set(experiment.model.state_dict())
    assert [s["name"] for s in stored(trainer.last_model_file)["stages"]] == ["stage1", "stage2"]


class Recorder:
    """Takes the place of TensorBoard's writer or of RecBole's W&B logger."""

    def __init__(self) -> None:
        self.scalars: dict[str, dict[int, float]] = {}
        self.metrics: list[tuple[str, dict[str, Any]]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.setdefault(name, {})[step] = value

    def log_metrics(self, metrics: dict[str, Any], head: str) -> None:
        self.metrics.append((head, metrics))


def test_every_epoch_reports_its_losses_and_what_the_weights_do(root):
    experiment, trainer = build(root)
    recorder = Recorder()
    trainer._epoch_log.tensorboard = trainer._epoch_log.wandb = recorder
    trainer.fit(*experiment.loaders[:2], verbose=False)
    both, second = list(range(6)), [3, 4, 5]
    of_weights = (
        "weight_mean/image",
        "weight_mean/text",
        "weight_std/image",
        "weight_std/text",
        "confidence_mean",
        "confidence_zero_share",
    )
    steps = {name: sorted(values) for name, values in recorder.scalars.items()}
    assert steps == {
        "Loss/Train": both,
        "Loss/Train0": both,
        "Loss/Train1": both,
        "Loss/Train2": second,
        "Vaild_score": both,
        "loss/recommendation": both,
        "loss/regularization": both,
        "loss/calibration": second,
        "valid/recall@5": both,
        "valid/ndcg@5": both,
        **dict.fromkeys(of_weights, second),
    }
    assert [head for head, _ in recorder.metrics] == ["train", "valid"] * 6
    means = recorder.scalars
    assert means["weight_mean/image"][5] + means["weight_mean/text"][5] == pytest.approx(1)
    assert 0 <= means["confidence_zero_share"][5] <= 1


def test_the_progress_bar_shows_both_losses(root, capsys):
    experiment, trainer = build(root, epochs=1, train_batch_size=2)
    trainer.fit(*experiment.loaders[:2], verbose=False, show_progress=True)
    shown = capsys.readouterr().err
    assert "stage1 epoch 1" in shown and "stage2 epoch 1" in shown
    assert "recommendation=" in shown and "calibration=" in shown


def test_epochs_are_logged_when_verbose(root, caplog):
    experiment, trainer = build(root, epochs=1)
    with caplog.at_level(logging.INFO):
        trainer.fit(*experiment.loaders[:2], verbose=False)
        quiet = caplog.text
        build(root, epochs=1)[1].fit(*experiment.loaders[:2])
    assert "stage1 epoch 1 train" not in quiet
    assert "stage1 epoch 1 train" in caplog.text and "stage2 epoch 1 valid" in caplog.text
