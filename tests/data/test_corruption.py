"""Features corrupted on purpose: which items, and what becomes of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_margo.data.corruption import KINDS, FeatureCorruption
from recbole_margo.data.features import load_item_features
from recbole_margo.errors import ConfigError
from recbole_margo.testing import prepare, random_world

MODALITIES = ("image", "text")


def toy(items: int = 200, seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor, list[str]]:
    """Return matrices, mask and tokens of some items, a tenth of which miss the image."""
    random = np.random.default_rng(seed)
    matrices = [
        torch.from_numpy(random.normal(3.0, 2.0, (items + 1, width)).astype(np.float32))
        for width in (50, 400)
    ]
    mask = torch.ones(items + 1, 2, dtype=torch.bool)
    mask[0] = False
    mask[1 : items // 10 + 1, 0] = False
    for column, matrix in enumerate(matrices):
        matrix[~mask[:, column]] = 0.0
    return matrices, mask, ["[PAD]", *(f"i{number}" for number in random.permutation(items))]


def corrupted(
    plan: FeatureCorruption, items: int = 200
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor, torch.Tensor]:
    before, mask, tokens = toy(items)
    after, new_mask = [matrix.clone() for matrix in before], mask.clone()
    chosen = plan.apply(after, new_mask, MODALITIES, tokens)
    return before, after, chosen, new_mask


@pytest.mark.parametrize("kind", KINDS)
def test_the_named_share_of_the_items_that_have_a_modality_is_corrupted_and_no_other(
    kind: str,
) -> None:
    before, after, chosen, _ = corrupted(FeatureCorruption({"image": 0.3, "text": 0.25}, kind))
    assert chosen.sum(dim=0).tolist() == [54, 50]  # of 180 and 200
    for column in (0, 1):
        changed = (before[column] != after[column]).any(dim=1)
        assert torch.equal(changed, chosen[:, column])
    assert not chosen[0].any()
    assert not (chosen[:, 0] & chosen[:, 1]).any()


def test_swapped_rows_are_those_of_other_chosen_items_and_none_stays() -> None:
    before, after, chosen, mask = corrupted(FeatureCorruption({"text": 0.3}))
    rows = np.flatnonzero(chosen[:, 1])
    old = {tuple(row) for row in before[1][rows].tolist()}
    assert {tuple(row) for row in after[1][rows].tolist()} == old
    assert not (after[1][rows] == before[1][rows]).all(dim=1).any()
    assert mask[rows, 1].all()


@pytest.mark.parametrize("decibels", [-10.0, 0.0, 10.0])
def test_noise_has_the_power_that_its_signal_to_noise_ratio_says(decibels: float) -> None:
    plan = FeatureCorruption({"text": 0.5}, "noise", signal_to_noise=decibels)
    before, after, chosen, _ = corrupted(plan)
    rows = chosen[:, 1]
    mean = before[1][1:].mean(dim=0)
    signal = (before[1][rows] - mean).square().sum(dim=1)
    noise = (after[1][rows] - before[1][rows]).square().sum(dim=1)
    # The ratio of each row is chi-square over its 400 degrees of freedom: deviation 7 %.
    ratio = (noise / signal * 10 ** (decibels / 10)).numpy()
    assert abs(ratio.mean() - 1) < 4 * 0.07 / np.sqrt(len(ratio))
    assert 0.05 < ratio.std() < 0.10


def test_blank_rows_are_all_the_mean_row_and_count_as_present() -> None:
    before, after, chosen, mask = corrupted(FeatureCorruption({"image": 0.3}, "blank"))
    present = before[0].any(dim=1)
    expected = before[0][present].double().mean(dim=0).float()
    torch.testing.assert_close(after[0][chosen[:, 0]], expected.expand(54, -1), rtol=1e-6, atol=0)
    assert mask[chosen[:, 0], 0].all()


def test_missing_rows_are_zero_and_leave_the_mask() -> None:
    before, after, chosen, mask = corrupted(FeatureCorruption({"image": 0.3}, "missing"))
    assert not after[0][chosen[:, 0]].any()
    assert torch.equal(mask[:, 0], before[0].any(dim=1) & ~chosen[:, 0])


@settings(deadline=None, max_examples=60)
@given(
    image=st.floats(0, 1),
    text=st.floats(0, 1),
    seed=st.integers(0, 10**6),
    items=st.integers(2, 60),
)
def test_no_item_is_corrupted_twice_as_long_as_others_are_left(
    image: float, text: float, seed: int, items: int
) -> None:
    _, mask, tokens = toy(items)
    plan = FeatureCorruption({"image": image, "text": text}, "blank", seed)
    chosen = plan.choose(tokens, mask, MODALITIES)
    present = mask.numpy()
    counts = chosen.sum(axis=0)
    assert counts.tolist() == [
        round(image * present[:, 0].sum()),
        round(text * present[:, 1].sum()),
    ]
    assert not (chosen & ~present).any()
    free = present[:, 1] & ~chosen[:, 0]
    assert (chosen.all(axis=1)).sum() == max(0, counts[1] - free.sum())


def test_the_choice_goes_by_token_not_by_internal_id() -> None:
    matrices, mask, tokens = toy()
    plan = FeatureCorruption({"text": 0.3}, "swap", seed=4)
    order = np.r_[0, np.random.default_rng(1).permutation(np.arange(1, len(tokens)))]
    other = [matrix[order].clone() for matrix in matrices]
    plan.apply(matrices, mask.clone(), MODALITIES, tokens)
    plan.apply(other, mask[order].clone(), MODALITIES, [tokens[item] for item in order])
    assert torch.equal(matrices[1][order], other[1])


def test_another_seed_chooses_other_items() -> None:
    _, mask, tokens = toy()
    one, other = (
        FeatureCorruption({"text": 0.3}, "swap", seed).choose(tokens, mask, MODALITIES)
        for seed in (1, 2)
    )
    assert (one != other).any()


def test_without_the_setting_nothing_is_corrupted(tmp_path: Path) -> None:
    experiment = prepare(random_world().write(tmp_path), "MARGO")
    assert not load_item_features(experiment.config, experiment.dataset).corrupted.any()


def test_a_model_gets_the_corrupted_features_and_normalisation_comes_afterwards(
    tmp_path: Path,
) -> None:
    root = random_world().write(tmp_path)
    setting = {"share": {"text": 0.4}, "kind": "noise", "signal_to_noise": -20, "seed": 3}
    clean = prepare(root, "MARGO", feature_normalization="l2")
    noisy = prepare(root, "MARGO", feature_normalization="l2", feature_corruption=setting)
    features = load_item_features(noisy.config, noisy.dataset)
    rows = features.corrupted[:, 1]
    assert int(rows.sum()) == 6
    assert torch.equal(noisy.model.features[0], clean.model.features[0])
    same = (noisy.model.features[1] == clean.model.features[1]).all(dim=1)
    assert torch.equal(same, ~rows)
    norms = torch.linalg.vector_norm(noisy.model.features[1][1:], dim=1)
    torch.testing.assert_close(norms, torch.ones(15))


def test_without_a_seed_of_its_own_the_run_s_seed_decides(tmp_path: Path) -> None:
    root = random_world().write(tmp_path)
    found = []
    for settings_of_run in ({"seed": 5}, {"seed": 6}, {"seed": 5}):
        experiment = prepare(
            root, "MARGO", feature_corruption={"share": {"text": 0.5}}, **settings_of_run
        )
        features = load_item_features(experiment.config, experiment.dataset)
        items = np.asarray(experiment.item_tokens)[features.corrupted[:, 1].numpy()]
        found.append(sorted(items))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("text", "must look like"),
        ({"kind": "swap"}, "must look like"),
        ({"share": {"text": 0.3}, "sort": "swap"}, "unknown key `sort` in `feature_corruption`"),
        ({"share": {"sound": 0.3}}, "among image, text, found 'sound'"),
        ({"share": {"text": 1.5}}, "share.text` must be a number from 0 to 1, found 1.5"),
        ({"share": {"text": True}}, "found True"),
        ({"share": {"text": 0.3}, "kind": "shuffle"}, "found 'shuffle'"),
        ({"share": {"text": 0.3}, "kind": "noise", "signal_to_noise": "loud"}, "found 'loud'"),
        ({"share": {"text": 0.3}, "seed": 1.5}, "found 1.5"),
        ({"share": {"text": 1.0}, "kind": "missing"}, "no item would keep 'text'"),
    ],
)
def test_a_corruption_that_makes_no_sense_is_refused(
    tmp_path: Path, setting: Any, message: str
) -> None:
    root = random_world().write(tmp_path)
    with pytest.raises(ConfigError, match=message):
        prepare(root, "MARGO", feature_corruption=setting)
