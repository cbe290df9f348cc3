from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from feature_world import IMAGE, ITEMS, NAME, TEXT, accept_files, toy_config, toy_dataset, write_toy

from recbole_margo.data import features as features_module
from recbole_margo.data.features import feature_folder, load_item_features
from recbole_margo.errors import ConfigError, DataError, FeatureError
from recbole_margo.store.feature_files import file_sha256, write_features


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_toy(tmp_path)


def test_rows_are_found_by_token_and_not_by_position(folder: Path) -> None:
    loaded = load_item_features(toy_config(folder), toy_dataset())

    assert loaded.modalities == ("text", "image")
    text, image = loaded.matrices
    assert text.dtype == image.dtype == torch.float32
    assert text.shape == (5, 3)
    for position, item in enumerate(ITEMS[1:], start=1):
        assert text[position].tolist() == TEXT[item]
        assert image[position].tolist() == IMAGE.get(item, [0.0, 0.0])


def test_another_order_of_items_only_permutes_the_rows(folder: Path) -> None:
    order = [0, 3, 1, 4, 2]
    one = load_item_features(toy_config(folder), toy_dataset())
    other = load_item_features(toy_config(folder), toy_dataset([ITEMS[i] for i in order]))

    assert torch.equal(other.mask, one.mask[order])
    for matrix, permuted in zip(one.matrices, other.matrices, strict=True):
        assert torch.equal(permuted, matrix[order])


def test_an_item_without_the_modality_is_missing_and_pad_always_is(folder: Path) -> None:
    loaded = load_item_features(toy_config(folder), toy_dataset())

    assert loaded.mask.tolist() == [
        [False, False],
        [True, True],  # c
        [True, False],  # a
        [True, False],  # d
        [True, True],  # b
    ]
    assert not loaded.matrices[0][0].any()


def test_a_file_that_names_the_pad_token_does_not_fill_row_0(folder: Path) -> None:
    write_features(folder, NAME, "text", np.ones((2, 3), "float32"), ["[PAD]", "a"], "a test")

    loaded = load_item_features(toy_config(folder, modalities=["text"]), toy_dataset())

    assert loaded.mask[:, 0].tolist() == [False, False, True, False, False]


def test_checksums_are_those_of_the_matrix_files(folder: Path) -> None:
    loaded = load_item_features(toy_config(folder), toy_dataset())

    assert loaded.checksums == {
        modality: file_sha256(folder / f"{NAME}.{modality}.npy") for modality in ("text", "image")
    }


def test_modalities_come_in_the_order_of_the_config(folder: Path) -> None:
    loaded = load_item_features(toy_config(folder, modalities=["image", "text"]), toy_dataset())
    assert loaded.modalities == ("image", "text")
    assert loaded.mask[2].tolist() == [False, True]

    alone = load_item_features(toy_config(folder, modalities="image"), toy_dataset())
    assert alone.modalities == ("image",)


def test_the_log_counts_each_modality(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_item_features(toy_config(folder, feature_normalization={"image": "l2"}), toy_dataset())
    assert (
        "Features 'image': 2 dimensions, 2 items with it, 2 items missing it, normalisation l2."
        in caplog.messages
    )
    assert (
        "Features 'text': 3 dimensions, 4 items with it, 0 items missing it, normalisation none."
        in caplog.messages
    )


def test_one_normalisation_may_be_named_for_all(folder: Path) -> None:
    loaded = load_item_features(toy_config(folder, feature_normalization="l2"), toy_dataset())

    for matrix, having in zip(loaded.matrices, loaded.mask.T, strict=True):
        norms = matrix.norm(dim=1)
        assert torch.allclose(norms, having.float())


def test_a_row_of_zeros_is_a_missing_item(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    matrix = np.load(folder / f"{NAME}.text.npy")
    matrix[0] = 0.0  # a
    np.save(folder / f"{NAME}.text.npy", matrix)
    accept_files(folder, "text")

    loaded = load_item_features(toy_config(folder), toy_dataset())

    assert loaded.mask[:, 0].tolist() == [False, True, False, True, True]
    assert "1 items have a row of zeros; they are taken to miss the modality" in caplog.text


def test_only_rows_of_zeros_are_refused(folder: Path) -> None:
    np.save(folder / f"{NAME}.text.npy", np.zeros((4, 3), "float32"))
    accept_files(folder, "text")
    with pytest.raises(FeatureError, match=r"toy\.text\.npy: .*only rows of zeros"):
        load_item_features(toy_config(folder), toy_dataset())


def test_items_that_the_dataset_does_not_know_are_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_item_features(toy_config(folder, modalities=["text"]), toy_dataset(ITEMS[:3]))

    assert loaded.matrices[0].shape == (3, 3)
    assert "2 of 4 items are unknown to the dataset 'toy'" in caplog.text


def test_features_of_another_dataset_are_refused(folder: Path) -> None:
    with pytest.raises(FeatureError, match=r"toy\.text\.npy: .*x, y.*found none.*a, b, c") as error:
        load_item_features(toy_config(folder), toy_dataset(["[PAD]", "x", "y"]))
    assert "docs/data.md" in str(error.value)
    assert isinstance(error.value, DataError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_item(folder: Path, value: float) -> None:
    matrix = np.load(folder / f"{NAME}.text.npy")
    matrix[1, 2] = matrix[3, 0] = value  # b and d
    np.save(folder / f"{NAME}.text.npy", matrix)
    accept_files(folder, "text")

    message = r"toy\.text\.npy: expected finite numbers, .*2 items, first b, d\."
    with pytest.raises(FeatureError, match=message):
        load_item_features(toy_config(folder), toy_dataset())

    # Rows that no item of the dataset uses do no harm.
    loaded = load_item_features(toy_config(folder), toy_dataset(["[PAD]", "c", "a"]))
    assert loaded.mask[1:, 0].all()


def test_an_unknown_modality_names_those_that_exist(folder: Path) -> None:
    with pytest.raises(FeatureError, match=r"'imgae'.*found text, image\..*Did you mean 'image'\?"):
        load_item_features(toy_config(folder, modalities=["text", "imgae"]), toy_dataset())


@pytest.mark.parametrize("modalities", [[], ["text", "text"]])
def test_no_modality_or_the_same_one_twice_is_refused(folder: Path, modalities: list[str]) -> None:
    with pytest.raises(FeatureError, match=r"`modalities`: expected different names.*null for all"):
        load_item_features(toy_config(folder, modalities=modalities), toy_dataset())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("zscore", r"`feature_normalization\.text` .*'none', 'l2', 'standard'.*found 'zscore'"),
        ({"text": "l3"}, r"`feature_normalization\.text` .*found 'l3'"),
        ({"txt": "l2"}, r"among text, image, found 'txt'\. Did you mean 'text'\?"),
    ],
)
def test_an_unknown_normalisation_is_refused(folder: Path, setting: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_item_features(toy_config(folder, feature_normalization=setting), toy_dataset())


def test_a_normalisation_may_be_set_for_a_modality_that_is_not_used(folder: Path) -> None:
    config = toy_config(folder, modalities=["text"], feature_normalization={"image": "l2"})
    assert load_item_features(config, toy_dataset()).modalities == ("text",)


def test_the_rows_come_from_a_memory_map(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = []
    original = features_module._gather

    def remember(stored: Any, *others: Any) -> Any:
        gathered.append(stored)
        return original(stored, *others)

    monkeypatch.setattr(features_module, "_gather", remember)
    load_item_features(toy_config(folder), toy_dataset())

    assert [type(stored) for stored in gathered] == [np.memmap, np.memmap]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_what_was_read_of_the_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    rows, columns = 4000, 4096  # 64 MB, four blocks
    tokens = [str(row) for row in range(rows)]
    matrix = np.ones((rows, columns), np.float32)
    write_features(tmp_path, NAME, "text", matrix, tokens, "a test")
    stored = np.load(tmp_path / f"{NAME}.text.npy", mmap_mode="r")

    features_module._gather(stored, np.arange(rows), tokens, tmp_path)

    mapping = Path("/proc/self/smaps").read_text().split(f"{NAME}.text.npy")[1]
    resident = next(line for line in mapping.splitlines() if line.startswith("Rss:"))
    assert int(resident.split()[1]) * 1024 < matrix.nbytes / 3


def test_many_blocks_give_the_same_matrix_as_one_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3000, 1500)).astype("float32")
    tokens = [f"i{row}" for row in rng.permutation(3000)]
    write_features(tmp_path, NAME, "text", matrix, tokens, "a test")
    items = ["[PAD]", *(f"i{row}" for row in range(3000))]

    loaded = load_item_features(toy_config(tmp_path), toy_dataset(items))

    row_of = {token: row for row, token in enumerate(tokens)}
    expected = matrix[[row_of[item] for item in items[1:]]]
    assert np.array_equal(loaded.matrices[0][1:].numpy(), expected)


def test_missing_features_say_which_command_makes_them(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "dataset" / NAME)
    command = rf"recbole-margo convert tabular .*--name toy --output_dir {tmp_path / 'dataset'} "
    with pytest.raises(FeatureError, match=rf"folder .* does not exist.*{command}"):
        load_item_features(config, toy_dataset())


def test_feature_path_comes_before_the_folder_of_the_dataset(folder: Path) -> None:
    config = toy_config(Path("elsewhere"), feature_path=str(folder))
    assert feature_folder(config) == folder
    assert load_item_features(config, toy_dataset()).modalities == ("text", "image")


class _Config(SimpleNamespace):
    """RecBole's Config as far as it matters: items, and what the user gave."""

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)


@pytest.mark.parametrize(("given", "expected"), [({}, "dataset"), ({"data_path": "my"}, "my")])
def test_features_of_the_bundled_dataset_lie_where_the_user_keeps_data(
    given: dict[str, str], expected: str
) -> None:
    values = {"dataset": "ml-100k", "data_path": "the/wheel/of/recbole/ml-100k"}
    config = _Config(values=values, external_config_dict=given)
    assert feature_folder(config) == Path(expected) / "ml-100k"
