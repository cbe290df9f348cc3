from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from feature_world import NAME, toy_config, toy_dataset
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.data import feature_transforms
from recbole_margo.data.feature_transforms import (
    NORMALIZATIONS,
    ReducedFeatures,
    normalize_features,
    reduce_features,
    reduced_columns,
)
from recbole_margo.data.features import ItemFeatures, load_item_features
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.store.feature_files import file_sha256, write_features
from recbole_margo.testing import prepare, random_world

PRESENT = np.array([False, True, True, False, True, True, True])


def features(scale: float = 1.0) -> np.ndarray:
    matrix = np.random.default_rng(1).normal(3.0, scale, (len(PRESENT), 5)).astype("float32")
    matrix[:, 2] = 0.1  # a column that is the same for all
    matrix[~PRESENT] = 0.0
    return matrix


def normalized(matrix: np.ndarray, normalization: str) -> np.ndarray:
    result = torch.from_numpy(matrix.copy())
    normalize_features(result, torch.from_numpy(PRESENT), normalization)
    return result.numpy()


def test_none_changes_nothing() -> None:
    assert np.array_equal(normalized(features(), "none"), features())


def test_l2_divides_each_row_by_its_norm() -> None:
    expected = features().astype("float64")
    expected[PRESENT] /= np.linalg.norm(expected[PRESENT], axis=1, keepdims=True)
    np.testing.assert_allclose(normalized(features(), "l2"), expected, rtol=1e-6)


def test_standard_uses_the_items_that_have_the_modality() -> None:
    expected = features().astype("float64")
    having = expected[PRESENT]
    deviation = having.std(axis=0)
    deviation[2] = 1.0
    expected[PRESENT] = (having - having.mean(axis=0)) / deviation
    expected[:, 2] = 0.0
    np.testing.assert_allclose(normalized(features(), "standard"), expected, atol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_numbers_stay_finite_and_missing_rows_zero(normalization: str, scale: float) -> None:
    result = normalized(features(scale), normalization)
    assert np.isfinite(result).all()
    assert not result[~PRESENT].any()


ITEMS, COLUMNS, RANK = 40, 12, 6


def low_rank(items: int = ITEMS, columns: int = COLUMNS, rank: int = RANK, seed: int = 0) -> Any:
    """Return a matrix [I, D] of a rank, whose columns have a mean; rows 0 and 5 are zero."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(items, rank)) @ random.normal(size=(rank, columns))
    matrix += np.outer(random.normal(size=items) + 5, matrix[1])
    matrix[[0, 5]] = 0
    return matrix.astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of 39 items, one of which has no text, with features of 12 and of 3 columns."""
    matrix, tokens = low_rank(), [f"i{row}" for row in range(ITEMS)]
    have = [row for row in range(1, ITEMS) if row != 5]
    write_features(tmp_path, NAME, "text", matrix[have], [tokens[row] for row in have], "a test")
    small = np.random.default_rng(1).normal(size=(ITEMS - 1, 3)).astype(np.float32)
    write_features(tmp_path, NAME, "image", small, tokens[1:], "a test")
    return tmp_path


def load(folder: Path, **settings: Any) -> ItemFeatures:
    tokens = ["[PAD]", *(f"i{row}" for row in range(1, ITEMS))]
    return load_item_features(toy_config(folder, **settings), toy_dataset(tokens))


def stored_files(folder: Path) -> list[Path]:
    return sorted((folder / ".reductions").glob("*"))


# --- the reduction itself -------------------------------------------------------------------------


@given(st.integers(1, COLUMNS - 1), st.integers(0, 5))
def test_the_reduced_matrix_is_that_of_a_full_svd(columns, seed):
    matrix = low_rank(seed=seed)
    left, singular, _ = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)

    reduced = ReducedFeatures.of_matrix(matrix, columns)

    assert reduced.matrix.shape == (ITEMS, columns) and reduced.matrix.dtype == np.float32
    kept = singular[:columns]
    expected = left[:, :columns] * kept
    # The signs of singular vectors are arbitrary: products of rows are not.
    size = kept[0] ** 2
    assert_allclose(reduced.matrix @ reduced.matrix.T, expected @ expected.T, atol=1e-5 * size)
    assert_allclose(np.linalg.norm(reduced.matrix, axis=0), kept, atol=1e-5 * kept[0])
    assert reduced.explained == pytest.approx((kept**2).sum() / (singular**2).sum(), abs=1e-5)


def test_products_of_rows_stay_when_the_rank_is_kept():
    """They would not if columns were centred; the mean is most of these features."""
    matrix = low_rank()
    reduced = ReducedFeatures.of_matrix(matrix, RANK)
    assert_allclose(reduced.matrix @ reduced.matrix.T, matrix @ matrix.T, rtol=1e-4, atol=1e-2)
    assert reduced.explained == pytest.approx(1, abs=1e-6)


def test_zero_rows_stay_exactly_zero():
    reduced = ReducedFeatures.of_matrix(low_rank(), 4).matrix
    assert not reduced[[0, 5]].any()
    assert reduced[[1, 2, 3, 4, 6]].any(axis=1).all()


@pytest.mark.parametrize("items", [3, ITEMS])
def test_columns_beyond_the_rank_are_zero(items):
    matrix = low_rank(items=items, rank=2) if items > 5 else low_rank()[1:4]
    rank = np.linalg.matrix_rank(matrix)
    reduced = ReducedFeatures.of_matrix(matrix, 10)
    assert reduced.matrix.shape == (items, 10)
    assert reduced.matrix[:, :rank].any(axis=0).all() and not reduced.matrix[:, rank:].any()
    assert_allclose(reduced.matrix @ reduced.matrix.T, matrix @ matrix.T, rtol=1e-4, atol=1e-2)


def test_features_that_are_all_zero_stay_so():
    reduced = ReducedFeatures.of_matrix(np.zeros((4, 6), np.float32), 2)
    assert reduced.explained == 1 and not reduced.matrix.any()


def test_the_result_does_not_depend_on_the_random_state_of_the_run():
    np.random.seed(1)
    one = ReducedFeatures.of_matrix(low_rank(), 3)
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    other = ReducedFeatures.of_matrix(low_rank(), 3)
    assert_array_equal(one.matrix, other.matrix)
    np.random.seed(1)
    assert_array_equal(np.random.get_state()[1], state)


# --- the setting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, {}),
        (64, {"text": 64, "image": 64}),
        ({"image": 8}, {"image": 8}),
        ({"image": 8, "text": None}, {"image": 8}),
        ({}, {}),
    ],
)
def test_a_number_is_for_all_modalities_or_for_those_named(setting, expected):
    assert reduced_columns(setting, ["text", "image"]) == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"imgae": 8}, r"modalities among text, image, found 'imgae'\. Did you mean 'image'\?"),
        ({"image": 0}, "\\.image` must be a whole number, 1 or more, found 0"),
        ({"image": 8.5}, "\\.image` .*found 8.5"),
        ({"image": True}, "\\.image` .*found True"),
        ("many", "\\.text` .*found 'many'"),
        ([8, 8], r"\.text` .*found \[8, 8\]"),
    ],
)
def test_other_settings_are_refused_before_features_are_read(folder, setting, message):
    for file in folder.glob("*.npy"):
        file.unlink()
    with pytest.raises(ConfigError, match=f"`feature_reduction.*{message}"):
        load(folder, modalities=["text", "image"], feature_reduction=setting)


def test_a_modality_that_has_no_more_columns_stays_as_it_is(folder, caplog):
    as_they_are = load(folder, modalities=["image"])
    loaded = load(folder, modalities=["image"], feature_reduction=3)
    assert torch.equal(loaded.matrices[0], as_they_are.matrices[0])
    assert loaded.checksums == as_they_are.checksums
    assert "'image': `feature_reduction` asks for 3 columns, there are 3; they stay" in caplog.text
    assert not stored_files(folder)


# --- as part of loading ---------------------------------------------------------------------------


def test_one_modality_is_reduced_and_the_other_is_not(folder, caplog):
    as_they_are = load(folder)
    with caplog.at_level(logging.INFO):
        loaded = load(folder, feature_reduction={"text": 4})
    text, image = (loaded.modalities.index(name) for name in ("text", "image"))
    assert loaded.matrices[text].shape == (ITEMS, 4)
    assert loaded.matrices[text].dtype == torch.float32
    assert torch.equal(loaded.matrices[image], as_they_are.matrices[image])
    assert torch.equal(loaded.mask, as_they_are.mask)
    assert not loaded.matrices[text][~loaded.mask[:, text]].any()
    original = as_they_are.matrices[text].double().numpy()
    singular = np.linalg.svd(original, compute_uv=False)
    share = (singular[:4] ** 2).sum() / (singular**2).sum()
    assert (
        f"Features 'text': reduced from 12 to 4 dimensions, which keep {100 * share:.2f} % of the "
        "squared norm." in caplog.messages
    )


def test_checksums_tell_the_reduced_features_from_the_original(folder):
    file = file_sha256(folder / f"{NAME}.text.npy")
    checksums = [
        load(folder, modalities="text", feature_reduction=columns).checksums["text"]
        for columns in (None, 4, 5, 12)
    ]
    assert checksums == [file, f"{file} reduced to 4", f"{file} reduced to 5", file]


@pytest.mark.parametrize("normalization", ["l2", "standard"])
def test_features_are_reduced_after_they_are_normalised(folder, normalization):
    full = load(folder, modalities="text", feature_normalization=normalization).matrices[0]
    loaded = load(
        folder, modalities="text", feature_normalization=normalization, feature_reduction=RANK + 1
    ).matrices[0]
    assert_allclose(loaded @ loaded.T, full @ full.T, atol=2e-5 * float((full @ full.T).max()))


# --- what is kept on disk -------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of columns with every SVD."""
    calls: list[int] = []
    original = feature_transforms.randomized_svd

    def counted(matrix: Any, n_components: int, **others: Any) -> Any:
        calls.append(n_components)
        return original(matrix, n_components=n_components, **others)

    monkeypatch.setattr(feature_transforms, "randomized_svd", counted)
    return calls


def test_a_second_load_reads_what_the_first_has_written(folder, computed):
    first = load(folder, feature_reduction={"text": 4})
    second = load(folder, feature_reduction={"text": 4})
    assert computed == [4]
    for one, other in zip(first.matrices, second.matrices, strict=True):
        assert torch.equal(one, other)
    assert [path.suffix for path in stored_files(folder)] == [".npz"]


@pytest.mark.parametrize(
    "others",
    [
        {"feature_reduction": {"text": 5}},
        {"feature_normalization": "l2"},
        {"feature_corruption": {"share": {"text": 0.5}, "kind": "swap"}},
        {"feature_corruption": {"share": {"text": 0.5}, "kind": "missing"}},
    ],
)
def test_anything_that_changes_the_result_is_computed_anew(folder, computed, others):
    settings = {"modalities": "text", "feature_reduction": {"text": 4}, "seed": 0}
    load(folder, **settings)
    load(folder, **{**settings, **others})
    assert len(computed) == 2 and len(stored_files(folder)) == 2


def test_other_items_or_another_order_of_them_are_computed_anew(folder, computed):
    config = toy_config(folder, modalities="text", feature_reduction=4)
    orders = [list(range(1, ITEMS)), list(range(1, ITEMS))[::-1], list(range(1, 20))]
    for order in orders:
        load_item_features(config, toy_dataset(["[PAD]", *(f"i{row}" for row in order)]))
    assert computed == [4, 4, 4]


def test_changed_features_are_computed_anew(folder, computed):
    load(folder, modalities="text", feature_reduction=4)
    matrix = np.load(folder / f"{NAME}.text.npy")
    tokens = (folder / f"{NAME}.text.tokens").read_text().splitlines()
    write_features(folder, NAME, "text", matrix * 2, tokens, "a test")
    load(folder, modalities="text", feature_reduction=4)
    assert computed == [4, 4]


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def damage_by_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)


def damage_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_another_shape(path: Path) -> None:
    np.savez(path, matrix=np.zeros((2, 4), np.float32), explained=np.float64(1))


def damage_by_a_missing_array(path: Path) -> None:
    np.savez(path, matrix=np.zeros((ITEMS, 4), np.float32))


def damage_by_a_pickle(path: Path) -> None:
    np.savez(path, matrix=np.array([{}], dtype=object), explained=np.float64(1))


DAMAGES = [
    damage_by_cutting,
    damage_by_a_bit,
    damage_by_emptying,
    damage_by_another_shape,
    damage_by_a_missing_array,
    damage_by_a_pickle,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_anew(folder, computed, caplog, damage):
    first = load(folder, modalities="text", feature_reduction=4)
    (path,) = stored_files(folder)
    damage(path)
    second = load(folder, modalities="text", feature_reduction=4)
    third = load(folder, modalities="text", feature_reduction=4)
    assert computed == [4, 4]
    assert f"{path} is damaged and is made anew" in caplog.text
    assert torch.equal(second.matrices[0], first.matrices[0])
    assert torch.equal(third.matrices[0], first.matrices[0])
    assert len(stored_files(folder)) == 1


def test_a_folder_that_cannot_be_written_costs_only_time(folder, computed, caplog):
    (folder / ".reductions").write_text("not a folder")
    for _ in range(2):
        loaded = load(folder, modalities="text", feature_reduction=4)
        assert loaded.matrices[0].shape == (ITEMS, 4)
    assert computed == [4, 4]
    assert "cannot be written" in caplog.text and "the next time" in caplog.text


def test_an_interrupted_write_leaves_nothing(folder, monkeypatch):
    def interrupted(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(folder, modalities="text", feature_reduction=4)
    assert stored_files(folder) == []


def test_many_columns_of_a_transposed_matrix_are_reduced_too(tmp_path):
    matrix = torch.from_numpy(low_rank()).T.contiguous().T
    reduced = reduce_features(matrix, 3, "text", tmp_path)
    expected = ReducedFeatures.of_matrix(low_rank(), 3).matrix
    assert_allclose(reduced.abs(), np.abs(expected), rtol=1e-4, atol=1e-3)


# --- in a run -------------------------------------------------------------------------------------


def test_a_model_trains_on_reduced_features_and_another_reduction_is_not_resumed(tmp_path):
    root = random_world(2).write(tmp_path)
    experiment = prepare(root, "MARGO", feature_reduction={"image": 3}, epochs=1)
    assert [matrix.shape[1] for matrix in experiment.model.features] == [3, 5]
    trainer = experiment.trainer()
    trainer.fit(*experiment.loaders[:2], show_progress=False)
    last = trainer.last_model_file

    for columns in (None, 2):
        other = prepare(root, "MARGO", feature_reduction={"image": columns}, epochs=2)
        trainer = other.trainer()
        trainer.resume_checkpoint(last)
        with pytest.raises(CheckpointError, match="features"):
            trainer.fit(*other.loaders[:2], show_progress=False)
