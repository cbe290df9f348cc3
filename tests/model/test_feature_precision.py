"""`feature_precision: bfloat16`: half the memory of the features, and about the same model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.model import base
from recbole_margo.registry import multimodal_models
from recbole_margo.resources import multiplies_in_bfloat16
from recbole_margo.testing import MISSING, Experiment, prepare, random_world

each_model = pytest.mark.parametrize("model", multimodal_models())


def in_both(root: Any, model: str, **settings: Any) -> tuple[Experiment, Experiment]:
    """Return a model with features in bfloat16 and in float32, with the same parameters."""
    world = random_world().without(MISSING["an item misses all"])
    root = world.write(root)
    half, full = (
        prepare(
            root, model, **{"feature_precision": precision, "train_features": False, **settings}
        )
        for precision in ("bfloat16", "float32")
    )
    half.model.load_state_dict(full.model.state_dict())
    return half, full


@each_model
def test_scores_and_losses_are_nearly_those_of_float32(tmp_path, model):
    half, full = in_both(tmp_path, model)
    assert {matrix.dtype for matrix in half.model.features} == {torch.bfloat16}
    assert {matrix.dtype for matrix in full.model.features} == {torch.float32}
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    scores, expected = half.all_scores(), full.all_scores()
    assert scores.dtype == np.float32
    spread = expected[1:, 1:].std()
    assert np.abs(scores - expected)[1:, 1:].max() < 0.1 * spread
    assert np.corrcoef(scores[1:, 1:].ravel(), expected[1:, 1:].ravel())[0, 1] > 0.999
    found = []
    for experiment in (half, full):
        torch.manual_seed(0)
        found.append(experiment.loss_terms(experiment.random_triplets()))
    np.testing.assert_allclose(*found, rtol=0.05, atol=1e-4)
    # Some models score without the features, but none trains without them.
    assert found[0] != found[1] or not np.array_equal(scores, expected)


@each_model
def test_a_model_learns_from_them(tmp_path, model):
    half, _ = in_both(tmp_path, model, epochs=2)
    before = half.all_scores()
    half.trainer().fit(*half.loaders[:2], verbose=False)
    after = half.all_scores()
    assert np.isfinite(after).all() and not np.allclose(before, after)


def test_trained_features_are_float32(tmp_path):
    with pytest.raises(ConfigError, match="feature_precision: float32"):
        in_both(tmp_path, "VBPR", train_features=True)


@pytest.mark.parametrize("value", ["float16", "bf16", 16, ["bfloat16"]])
def test_another_precision_is_refused(tmp_path, value):
    root = random_world().write(tmp_path)
    with pytest.raises(ConfigError, match="`feature_precision` must be one of"):
        prepare(root, "MARGO", feature_precision=value)


def test_a_run_in_the_other_precision_is_not_resumed(tmp_path):
    half, full = in_both(tmp_path, "MARGO", epochs=1)
    trainer = half.trainer()
    trainer.fit(*half.loaders[:2], verbose=False, saved=True)
    (last,) = tmp_path.glob("saved/*-last.pth")
    other = full.trainer()
    other.resume_checkpoint(last)
    with pytest.raises(CheckpointError, match="feature_precision"):
        other.fit(*full.loaders[:2], verbose=False, saved=True)


@pytest.mark.parametrize("has_instructions", [True, False])
def test_a_processor_without_bfloat16_is_warned_of(tmp_path, monkeypatch, caplog, has_instructions):
    monkeypatch.setattr(base, "multiplies_in_bfloat16", lambda: has_instructions)
    in_both(tmp_path, "MARGO")
    warned = [record for record in caplog.records if "costs time" in record.message]
    assert len(warned) == (0 if has_instructions else 1)


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("amx", [True, False])
def test_whether_a_processor_multiplies_in_bfloat16_is_asked_of_torch(monkeypatch, avx512, amx):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert multiplies_in_bfloat16() is (avx512 or amx)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert multiplies_in_bfloat16() is True
