"""Recommendations from a bundle are those of the model, and explanations add up to its scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from PIL import Image
from recbole.data.interaction import Interaction

from recbole_margo import Recommender
from recbole_margo.errors import BundleError, CheckpointError, ConfigError, UnknownIdError
from recbole_margo.recbole_bridge import load_data_and_model
from recbole_margo.registry import multimodal_models
from recbole_margo.run import run_recbole_margo
from recbole_margo.serving.bundle_files import MANIFEST, open_bundle, write_bundle
from recbole_margo.serving.bundling import bundle_of_run
from recbole_margo.serving.new_items import RIDGE, fold_in_map
from recbole_margo.store.dataset_files import write_images
from recbole_margo.studies.runs.trained_run import find_runs
from recbole_margo.testing import MISSING, NAME, SETTINGS, random_world, small_settings

MODELS = sorted(multimodal_models())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving")
    random_world().without(MISSING["some items miss one"]).write(root / "data")
    titles = "".join(f"i{n}\tFilm {n}\n" for n in range(15))
    path = root / "data" / NAME / f"{NAME}.item"
    path.write_text(f"item_id:token\ttitle:token_seq\n{titles}", encoding="utf-8")
    images = {"i3": path.parent / "images" / "i3.png", "i4": root / "elsewhere.png"}
    images["i3"].parent.mkdir()
    for image in images.values():
        Image.new("RGB", (40, 30), "red").save(image)
    write_images(path.parent, NAME, images)
    return root


def trained(root: Path, model: str) -> Path:
    folder = root / "runs" / model
    if not folder.exists():
        settings: dict[str, Any] = {
            **SETTINGS,
            **small_settings(model),
            "data_path": str(root / "data"),
            "epochs": 2,
        }
        run_recbole_margo(model, NAME, None, settings, folder)
    return folder / model


@pytest.fixture
def margo(root: Path) -> Recommender:
    return Recommender.load(trained(root, "MARGO"))


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_scores_are_those_of_the_model(root: Path, tmp_path: Path, model: str) -> None:
    folder = trained(root, model)
    write_bundle(bundle_of_run(folder), tmp_path / "bundle")
    recommender = Recommender.load(tmp_path / "bundle")
    (run,) = find_runs(folder)
    torch.manual_seed(0)
    loaded, dataset = run.load_model(), run.dataset
    users = torch.arange(1, dataset.user_num)
    with torch.no_grad():
        scores = loaded.full_sort_predict({loaded.USER_ID: users}).view(len(users), -1)
    scores = scores.numpy()[:, 1:]
    user_ids, item_ids = (
        dataset.field2id_token[field][1:].tolist()
        for field in (dataset.uid_field, dataset.iid_field)
    )
    known = [set() for _ in user_ids]
    for loader in run.loaders:
        part = loader._dataset.inter_feat
        for user, item in zip(part[dataset.uid_field], part[dataset.iid_field], strict=True):
            known[int(user) - 1].add(int(item) - 1)
    pairs = [(user, item) for user in user_ids for item in item_ids]
    np.testing.assert_allclose(recommender.score(pairs), scores.ravel(), rtol=1e-5, atol=1e-6)
    found = recommender.recommend(user_ids, n=5)
    for row, one in enumerate(found):
        allowed = [item for item in range(len(item_ids)) if item not in known[row]]
        expected = sorted(allowed, key=lambda item: -scores[row, item])[:5]
        assert one.user == user_ids[row]
        assert [each.item for each in one.items] == [item_ids[item] for item in expected]
        for each in one.items:
            explanation = recommender.explain(one.user, each.item)
            parts = sum(part.value for part in explanation.contributions)
            assert parts == pytest.approx(each.score, abs=1e-5)
            assert sum(part.share for part in explanation.contributions) == pytest.approx(1)
            assert not explanation.seen and explanation.title == f"Film {each.item[1:]}"


def test_the_parts_of_margo_are_its_weighted_modality_scores(root: Path) -> None:
    (run,) = find_runs(trained(root, "MARGO"))
    model, recommender = run.load_model(), Recommender.load(run.folder)
    with torch.no_grad():
        users, items = model.embeddings()
        parts = torch.einsum("umd,imd->uim", users, items) * model.item_weights()
    dataset = run.dataset
    for user, item in ((1, 1), (3, 7), (20, 15)):
        names = (
            dataset.id2token(dataset.uid_field, user),
            dataset.id2token(dataset.iid_field, item),
        )
        found = recommender.explain(*map(str, names)).contributions
        assert [part.name for part in found] == list(model.modalities)
        assert [part.value for part in found] == pytest.approx(parts[user, item].tolist(), abs=1e-6)
        assert [part.weight for part in found] == pytest.approx(model.item_weights()[item].tolist())
        assert [part.missing for part in found] == (~model.modality_mask[item]).tolist()


def test_a_bundle_equals_the_run_and_opens_without_torch(root: Path, tmp_path: Path) -> None:
    bundle = bundle_of_run(trained(root, "MARGO"))
    write_bundle(bundle, tmp_path / "bundle")
    opened = open_bundle(tmp_path / "bundle")
    assert opened.facts == bundle.facts
    assert (opened.user_ids, opened.item_ids) == (bundle.user_ids, bundle.item_ids)
    for name, array in bundle.arrays().items():
        np.testing.assert_array_equal(opened.arrays()[name], array, strict=True)
    assert opened.thumbnails is not None
    pictured = [item for row, item in enumerate(opened.item_ids) if opened.thumbnails.of(row)]
    assert pictured == ["i3"]
    code = (
        "import sys; from recbole_margo import Recommender; "
        f"r = Recommender.load({str(tmp_path / 'bundle')!r}); "
        "print(len(r.recommend(['u0'], 3)[0].items), {'torch', 'recbole'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["3", "set()"]


def test_allow_deny_and_seen_items_decide_who_is_a_candidate(margo: Recommender) -> None:
    everything = margo.recommend(["u1"], 15, exclude_seen=False)[0].items
    assert len(everything) == 15
    assert [each.score for each in everything] == sorted(
        (each.score for each in everything), reverse=True
    )
    known = {margo.bundle.item_ids[row] for row in margo.seen(1)}
    assert known
    user = margo.bundle.user_ids[1]
    found = margo.recommend([user], 15)[0].items
    assert {each.item for each in found}.isdisjoint(known) and len(found) == 15 - len(known)
    allowed = [found[2].item, found[0].item, next(iter(known))]
    limited = margo.recommend([user], 5, allow=allowed, deny=[found[0].item])[0].items
    assert [each.item for each in limited] == [found[2].item]


def test_unknown_users_are_an_error_or_get_what_is_popular(margo: Recommender) -> None:
    with pytest.raises(UnknownIdError, match="'nobody'"):
        margo.recommend(["u1", "nobody"])
    known, unknown = margo.recommend(["u1", "nobody"], 3, on_unknown="popular")
    assert known == margo.recommend(["u1"], 3)[0]
    counts = np.bincount(margo.bundle.seen_items, minlength=15)
    assert unknown.popular and [each.score for each in unknown.items] == sorted(counts)[:-4:-1]


def test_a_history_is_folded_in_by_the_least_squares_map(margo: Recommender) -> None:
    bundle = margo.bundle
    (one,) = margo.recommend(n=3, history=["i1", "i4"])
    rows = [bundle.item_ids.index(item) for item in ("i1", "i4")]
    user = bundle.items[rows].mean(axis=0) @ bundle.fold_in
    scores = bundle.items @ user
    scores[rows] = -np.inf
    assert [each.item for each in one.items] == [
        bundle.item_ids[row] for row in np.argsort(-scores)[:3]
    ]
    assert one.user is None


def test_the_map_of_histories_finds_a_planted_one() -> None:
    rng = np.random.default_rng(0)
    items, planted = rng.normal(size=(30, 4)), rng.normal(size=(4, 4))
    history = sp.random(200, 30, 0.2, "csr", random_state=0)
    history.data[:] = 1
    counts = np.maximum(history.sum(axis=1).A, 1)
    users = (history @ items) / counts @ planted
    for ridge, tolerance in ((1e-12, 1e-6), (RIDGE, 0.1)):
        found = fold_in_map(users, items, history, ridge)
        np.testing.assert_allclose(found, planted, atol=tolerance)
    means = ((history @ items) / counts)[history.getnnz(axis=1) > 0]
    ridge = RIDGE * (means**2).sum() / 4
    dense = np.linalg.inv(means.T @ means + ridge * np.eye(4)) @ means.T
    dense = dense @ users[history.getnnz(axis=1) > 0]
    np.testing.assert_allclose(fold_in_map(users, items, history), dense, rtol=1e-5)


def test_similar_items_are_those_of_the_largest_cosine(margo: Recommender) -> None:
    table = np.asarray(margo.bundle.items)
    for modality, columns in (
        (None, slice(None)),
        *((b.name, slice(b.start, b.stop)) for b in margo.bundle.facts.blocks),
    ):
        part = table[:, columns]
        unit = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-30)
        row = margo.bundle.item_ids.index("i2")
        cosines = unit @ unit[row]
        cosines[row] = -np.inf
        best = margo.similar_items("i2", 1, modality)[0]
        assert best.score == pytest.approx(cosines.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.recommend(["u1"], 0), "from 1 to 15, found 0"),
        (lambda r: r.recommend(["u1"], 16), "from 1 to 15, found 16"),
        (lambda r: r.recommend("u1"), "a list of raw ids"),
        (lambda r: r.recommend(["u1"], history=["i1"]), "either"),
        (lambda r: r.recommend(), "either"),
        (lambda r: r.recommend(history=["x"]), "'x'"),
        (lambda r: r.recommend(["u1"], deny=["x"]), "'x'"),
        (lambda r: r.recommend(["u1"], on_unknown="x"), "on_unknown"),
        (lambda r: r.similar_items("i1", modality="taste"), "'taste'"),
        (lambda r: r.explain("u1", "x"), "'x'"),
        (lambda r: r.score([("x", "i1")]), "'x'"),
    ],
)
def test_wrong_input_is_named(margo: Recommender, call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(margo)


def test_a_damaged_or_foreign_bundle_is_refused(root: Path, tmp_path: Path) -> None:
    bundle = bundle_of_run(trained(root, "MARGO"), evidence=False)
    folder = tmp_path / "bundle"
    write_bundle(bundle, folder)
    with pytest.raises(BundleError, match="found something"):
        write_bundle(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    for changed, message in (
        ({"format": 3}, "expected format 2 or an older one, found 3"),
        ({"content": {"kind": "x"}}, "damaged"),
        ({"blocks": 3}, "damaged"),
        ({"blocks": manifest["blocks"][:1]}, "do not fit"),
        ({"files": {}}, "tokens.json"),
        ({"files": {"items.npy": {"bytes": "x", "sha256": 3}}}, "damaged"),
        ({"content": {**manifest["content"], "numbers": {"x": "y"}}}, "damaged"),
        ({"files": {**manifest["files"], "../x.npy": {"bytes": 1, "sha256": ""}}}, "x.npy"),
    ):
        (folder / MANIFEST).write_text(json.dumps({**manifest, **changed}))
        with pytest.raises(BundleError, match=message):
            open_bundle(folder)
    for foreign in ("[" * 100_000, "[]", '"format"'):
        (folder / MANIFEST).write_text(foreign)
        with pytest.raises(BundleError, match="damaged"):
            open_bundle(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    table = folder / "items.npy"
    content = table.read_bytes()
    for spoiled, message in ((content[:-1], "bytes"), (content[:-1] + b"\xff", "SHA-256")):
        table.write_bytes(spoiled)
        with pytest.raises(BundleError, match=message):
            open_bundle(folder)
    table.unlink()
    with pytest.raises(BundleError, match="found none"):
        open_bundle(folder)
    with pytest.raises(CheckpointError, match="no finished run"):
        Recommender.load(tmp_path)


def of_recbole(root: Path, model: str) -> Path:
    folder = root / "runs" / model
    settings = {**SETTINGS, "data_path": str(root / "data"), "epochs": 1}
    run_recbole_margo(model, NAME, None, settings, folder)
    return folder


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_models_of_recbole_are_bundled_if_their_tables_give_their_scores(
    root: Path,
    tmp_path: Path,
    model: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = (of_recbole(root, model) / model).absolute()
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    write_bundle(bundle_of_run(folder), tmp_path / "bundle")
    assert "Hyper Parameters" not in "".join(capfd.readouterr())
    assert not Path("log").exists()
    recommender = Recommender.load(tmp_path / "bundle")
    loaded = load_data_and_model(str(folder / "checkpoint.pth"))[1].eval()
    users = torch.arange(1, 21)
    with torch.no_grad():
        scores = loaded.full_sort_predict(Interaction({"user_id": users})).view(20, -1)[:, 1:]
    bundle = recommender.bundle
    pairs = [(user, item) for user in bundle.user_ids for item in bundle.item_ids]
    np.testing.assert_allclose(
        recommender.score(pairs), scores.numpy().ravel(), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(BundleError, match="without a path from contents"):
        recommender.add_items({"new": {"image": np.ones(4)}})


@pytest.mark.parametrize("model", ["ItemKNN", "NeuMF"])
def test_models_of_recbole_without_tables_are_refused_with_the_way_that_there_is(
    root: Path, model: str
) -> None:
    with pytest.raises(BundleError, match="full_sort_topk"):
        Recommender.load(of_recbole(root, model))


def test_a_bundle_of_the_first_format_opens_and_has_no_new_items(
    root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    write_bundle(bundle_of_run(trained(root, "MARGO"), evidence=False), folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    later = ("history_", "content_", "modality_fitting")
    manifest["files"] = {
        name: of for name, of in manifest["files"].items() if not name.startswith(later)
    }
    del manifest["content"]
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 1}))
    recommender = Recommender.load(folder)
    found = recommender.explain("u1", "i3")
    assert found.reasons == () and len(found.contributions) == 2
    with pytest.raises(BundleError, match="an earlier version made it"):
        recommender.add_items({"new": {"image": np.ones(4)}})
