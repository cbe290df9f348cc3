"""The row of a new item is the one that the model computes for an item without interactions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recbole_margo import Recommender
from recbole_margo.config import Config
from recbole_margo.data.features import load_item_features
from recbole_margo.errors import BundleError, ConfigError, FeatureError
from recbole_margo.nn.content_path import unit_rows
from recbole_margo.nn.new_items import prior_weights
from recbole_margo.registry import multimodal_models
from recbole_margo.run import load_split, run_recbole_margo
from recbole_margo.serving.bundle_files import write_bundle
from recbole_margo.serving.bundling import bundle_of_run
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.manifest import EncoderRecord
from recbole_margo.studies.runs.trained_run import find_runs
from recbole_margo.testing import MISSING, NAME, SETTINGS, World, random_world, small_settings

MODELS = [*sorted({*multimodal_models()} - {"BM3"}), "MARGO on LightGCN"]
LAYERS = {"DRAGON": 2, "FREEDOM": 2}


@pytest.fixture(scope="module")
def world() -> World:
    return random_world().without(MISSING["some items miss one"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    root = tmp_path_factory.mktemp("new_items")
    world.write(root / "data")
    return root


def settings(name: str) -> dict[str, Any]:
    model = name.split()[0]
    found = {**SETTINGS, **small_settings(model), "epochs": 2}
    if " on " in name:
        found["backbone"] = name.split()[-1]
    if name in LAYERS:
        found["item_graph_layers"] = LAYERS[name]
    return found


def trained(root: Path, name: str, **more: Any) -> Path:
    model, folder = name.split()[0], root / "runs" / "-".join([name, *map(str, more.values())])
    if not folder.exists():
        values = {**settings(name), "data_path": str(root / "data"), **more}
        run_recbole_margo(model, NAME, None, values, folder)
    return folder / model


def far_away(root: Path, name: str) -> dict[str, NDArray[np.float32]]:
    """Return features of an item that is in no trained item's list of neighbours."""
    (run,) = find_runs(trained(root, name))
    model, raw = run.load_model(), load_item_features(run.config, run.dataset).matrices
    k = getattr(model.hyperparameters, "item_neighbors", 15)
    graphs = getattr(model, "item_graphs", None)
    random = np.random.default_rng(1)
    found = {}
    for m, modality in enumerate(model.modalities):
        maps = [lambda rows: rows, *getattr(graphs, "projections", [])[m : m + 1]]
        for _ in range(20000):
            row = torch.tensor(random.normal(size=(1, raw[m].shape[1]))).float()
            has = model.modality_mask[:, m]
            if all(_is_far(mapped(raw[m])[has], mapped(row), k) for mapped in maps):
                found[modality] = row.numpy()[0]
                break
    return found


@torch.no_grad()
def _is_far(known: torch.Tensor, new: torch.Tensor, k: int) -> bool:
    rows, row = unit_rows(known.detach().numpy()), unit_rows(new.detach().numpy())
    lists = np.sort(rows @ rows.T)
    return k > len(rows) or bool((lists[:, -k] > (rows @ row.T).ravel()).all())


def in_the_model(root: Path, name: str, rows: dict[str, Any], world: World) -> Any:
    """Return the model on data with the new item, with the parameters of the trained one."""
    (run,) = find_runs(trained(root, name))
    splits = {**world.splits, "test": [*world.splits["test"], ("u0", "new")]}
    features = {
        modality: {**of_items, **({"new": rows[modality]} if modality in rows else {})}
        for modality, of_items in world.features.items()
    }
    folder = root / f"with-{name}-{len(rows)}"
    World(splits, features).write(folder)
    values = {**settings(name), "data_path": str(folder)}
    config = Config(name.split()[0], NAME, None, values)
    dataset = load_split(config)[0]._dataset
    model: Any = config.model_class(config, dataset)
    assert dataset.token2id(dataset.iid_field, "new") == dataset.item_num - 1
    known = run.load_model().state_dict()
    for key, value in model.state_dict().items():
        if value.shape == known[key].shape:
            value.copy_(known[key])
        else:
            value[:-1] = known[key]
            if not key.startswith("feature_matrix"):
                value[-1] = 0
    model.eval()
    return model


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_new_item_has_the_row_of_an_item_without_interactions(
    root: Path, world: World, name: str, missing: bool
) -> None:
    rows = far_away(root, name)
    assert len(rows) == 2
    if missing:
        del rows["image"]
    model = in_the_model(root, name, rows, world)
    if name.startswith("MARGO"):
        model.stage = "stage1"
    with torch.no_grad():
        expected = model.scoring_tables()[1][-1].numpy()
    bundle = bundle_of_run(trained(root, name), evidence=False)
    assert bundle.content is not None
    plain = dataclasses.replace(bundle, reliability=None)
    added = Recommender(plain).add_items({"new": rows})
    # The directions of the neighbours are kept in half precision.
    size = np.abs(expected).max()
    np.testing.assert_allclose(added.bundle.items[-1] / size, expected / size, atol=5e-3)
    np.testing.assert_array_equal(added.bundle.items[:-1], bundle.items)


def test_a_trained_item_added_again_is_where_its_contents_put_it(root: Path, world: World) -> None:
    recommender = Recommender(bundle_of_run(trained(root, "VBPR"), evidence=False))
    rows = {m: of_items["i5"] for m, of_items in world.features.items()}
    added = recommender.add_items({"again": rows}, {"again": "The same"})
    was, now = added.bundle.items[added.item_row("i5")], added.bundle.items[-1]
    width = len(was) // 2
    np.testing.assert_allclose(now[width:], was[width:], rtol=1e-5)
    assert not now[:width].any()
    assert added.similar_items("again", 1, "content")[0].item == "i5"
    user = added.bundle.user_ids[0]
    found = added.recommend([user], 1, allow=["again"])[0].items[0]
    assert found.title == "The same"
    assert added.score([(user, "again")])[0] == pytest.approx(found.score)
    explained = added.explain(user, "again")
    assert sum(part.value for part in explained.contributions) == pytest.approx(found.score)


def test_margo_weighs_a_new_item_as_those_with_the_same_modalities(
    root: Path, world: World, tmp_path: Path
) -> None:
    recommender = Recommender(bundle_of_run(trained(root, "MARGO"), evidence=True))
    rows = {m: of_items["i5"] for m, of_items in world.features.items()}
    added = recommender.add_items({"both": rows, "one": {"text": rows["text"]}})
    reliability = added.bundle.reliability
    assert reliability is not None
    whole = reliability.present[:15].all(axis=1)
    np.testing.assert_allclose(
        reliability.weights[15], reliability.weights[:15][whole].mean(axis=0), rtol=1e-5
    )
    np.testing.assert_array_equal(reliability.weights[16], [0, 1])
    assert np.isnan(reliability.q_values[15:]).all()
    explained = added.explain("u1", "one")
    assert explained.contributions[0].missing
    assert f"{explained.contributions[0].name}: lacks" in explained.sentences()
    # Saved, opened and added to again.
    added.save(tmp_path / "bundle")
    opened = Recommender.load(tmp_path / "bundle").add_items({"third": rows})
    np.testing.assert_allclose(opened.bundle.items[17], opened.bundle.items[15], rtol=1e-4)
    assert opened.recommend(["u1"], 3) != [] and len(opened.bundle.item_ids) == 18


def test_weights_of_a_pattern_that_no_item_has_are_the_mean_ones_of_each_modality() -> None:
    has = np.array([[True, False], [False, True]])
    weights = np.eye(2, dtype=np.float32)
    found = prior_weights(weights, has, np.array([[True, True], [False, False]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("normalization", ["l2", "standard"])
def test_new_rows_are_normalised_as_the_trained_ones(
    root: Path, world: World, normalization: str
) -> None:
    folder = trained(root, "VBPR", feature_normalization=normalization)
    recommender = Recommender(bundle_of_run(folder, evidence=False))
    rows = {m: of_items["i5"] for m, of_items in world.features.items()}
    added = recommender.add_items({"again": rows})
    width = added.bundle.items.shape[1] // 2
    np.testing.assert_allclose(
        added.bundle.items[-1, width:],
        added.bundle.items[added.item_row("i5"), width:],
        rtol=1e-4,
        atol=1e-6,
    )


def test_features_come_from_a_folder_in_the_projects_format(
    root: Path, world: World, tmp_path: Path
) -> None:
    recommender = Recommender(bundle_of_run(trained(root, "MARGO"), evidence=False))
    features = {
        token: {m: np.float32(of_items[like]) for m, of_items in world.features.items()}
        for token, like in (("a", "i5"), ("b", "i6"))
    }
    for modality in world.modalities:
        matrix = np.stack([rows[modality] for rows in features.values()])
        write_features(tmp_path, "arrivals", modality, matrix, list(features), "a test")
    read = recommender.add_items(tmp_path)
    np.testing.assert_array_equal(read.bundle.items, recommender.add_items(features).bundle.items)


def arrivals(world: World, folder: Path, encoder: EncoderRecord | None) -> Path:
    for modality, rows in world.features.items():
        matrix = np.float32(rows["i5"])[None]
        write_features(folder, "arrivals", modality, matrix, ["a"], "a test", encoder)
    return folder


def test_features_of_another_encoder_are_refused(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(tmp_path / "data")
    fit = EncoderRecord("text", "tfidf", "one fit")
    folder = tmp_path / "data" / NAME
    for modality, rows in world.features.items():
        matrix = np.float32(np.stack(list(rows.values())))
        write_features(folder, NAME, modality, matrix, list(rows), "a test", fit)
    made = bundle_of_run(trained(tmp_path, "MARGO"), evidence=False)
    write_bundle(made, tmp_path / "bundle")
    recommender = Recommender.load(tmp_path / "bundle")
    added = recommender.add_items(arrivals(world, tmp_path / "same", fit))
    assert added.bundle.content is recommender.bundle.content
    assert not caplog.messages
    other = arrivals(world, tmp_path / "other", EncoderRecord("text", "tfidf", "another fit"))
    with pytest.raises(FeatureError, match="expected features by the tfidf of the trained items"):
        recommender.add_items(other)
    with pytest.raises(FeatureError, match="found other/model: encode the new items with `recbole"):
        histograms = EncoderRecord("text", "other/model", "weights")
        recommender.add_items(arrivals(world, tmp_path / "third", histograms))
    recommender.add_items(arrivals(world, tmp_path / "unknown", None))
    assert "nothing says with what the new items were encoded" in caplog.text


ROWS = {"image": np.ones(4), "text": np.ones(5)}


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        ({}, ConfigError, "found none"),
        ({"i1": ROWS}, ConfigError, "does not have yet, found 'i1'"),
        ({"new": {}}, FeatureError, "at least one of image, text"),
        ({"new": {"image": np.zeros(4)}}, FeatureError, "at least one of"),
        ({"new": {"smell": np.ones(4)}}, FeatureError, "among image, text, found 'smell'"),
        ({"new": {"image": np.ones(5)}}, FeatureError, "expected 4 columns"),
        ({"new": {"image": [1, 2, float("nan"), 3]}}, FeatureError, "finite"),
        ({"new": {"image": "red"}}, FeatureError, "expected 4 numbers"),
        ({"new": np.ones(4)}, FeatureError, "a row by modality"),
        ({"": ROWS}, ConfigError, "raw ids"),
        ("nowhere", FeatureError, "nowhere: expected one file"),
    ],
)
def test_wrong_features_are_named(
    root: Path, features: Any, error: type[Exception], message: str
) -> None:
    recommender = Recommender(bundle_of_run(trained(root, "MARGO"), evidence=False))
    with pytest.raises(error, match=message):
        recommender.add_items(features)


@pytest.mark.parametrize(("name", "more"), [("BM3", {}), ("VBPR", {"feature_reduction": 3})])
def test_models_without_a_content_path_refuse(root: Path, name: str, more: dict[str, Any]) -> None:
    recommender = Recommender(bundle_of_run(trained(root, name, **more), evidence=False))
    assert recommender.bundle.content is None
    with pytest.raises(BundleError, match="without a path from contents"):
        recommender.add_items({"new": ROWS})


def test_a_damaged_table_of_contents_is_refused_when_it_is_used(root: Path, tmp_path: Path) -> None:
    Recommender(bundle_of_run(trained(root, "MARGO"), evidence=False)).save(tmp_path / "b")
    path = tmp_path / "b" / "content_directions_0.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    opened = Recommender.load(tmp_path / "b")
    assert opened.recommend(["u1"], 3)
    with pytest.raises(BundleError, match="SHA-256"):
        opened.add_items({"new": ROWS})
