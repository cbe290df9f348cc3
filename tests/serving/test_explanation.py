"""Scores by item of the history: they add up, and are what the formulas say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_margo import Recommender
from recbole_margo.graph.bipartite import normalized_interactions
from recbole_margo.run import run_recbole_margo
from recbole_margo.serving.bundling import bundle_of_run
from recbole_margo.serving.explanation import HISTORY, Explanation, Reason
from recbole_margo.serving.output import _bars
from recbole_margo.studies.runs.trained_run import find_runs
from recbole_margo.testing import MISSING, NAME, SETTINGS, random_world, small_settings

MODELS = ("MARGO", "MARGO on LightGCN", "DRAGON", "FREEDOM")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explanation")
    random_world().without(MISSING["some items miss one"]).write(root / "data")
    return root


def trained(root: Path, name: str) -> Path:
    model, folder = name.split()[0], root / "runs" / name
    if not folder.exists():
        settings: dict[str, Any] = {**SETTINGS, **small_settings(model), "epochs": 2}
        settings["data_path"] = str(root / "data")
        if " on " in name:
            settings["backbone"] = name.split()[-1]
        run_recbole_margo(model, NAME, None, settings, folder)
    return folder / model


@pytest.mark.parametrize("name", MODELS)
def test_reasons_add_up_to_the_score(root: Path, name: str) -> None:
    recommender = Recommender(bundle_of_run(trained(root, name), evidence=False))
    bundle = recommender.bundle
    blocks = [block.name for block in bundle.facts.blocks]
    for user in bundle.user_ids[:5]:
        for item in bundle.item_ids[:5]:
            found = recommender.explain(user, item)
            assert sum(r.value for r in found.reasons) == pytest.approx(found.score, abs=1e-5)
            assert sum(r.share for r in found.reasons) == pytest.approx(1)
            for part in found.contributions:
                parts = [r.value for r in found.reasons if r.name == part.name]
                assert sum(parts) == pytest.approx(part.value, abs=1e-5)
            history = [r for r in found.reasons if r.source == "history"]
            assert len(history) == 4 * len(blocks)
            known = {bundle.item_ids[row] for row in recommender.seen(recommender.user_row(user))}
            assert {r.item for r in history} <= known
            if name in ("MARGO on LightGCN", "FREEDOM"):
                rest = [r.value for r in found.reasons if r.source == "users alike"]
                assert rest == pytest.approx([0] * len(blocks), abs=1e-5)


@pytest.mark.parametrize("name", ["MARGO", "DRAGON"])
def test_reasons_are_those_of_the_dense_formulas(root: Path, name: str) -> None:
    (run,) = find_runs(trained(root, name))
    model = run.load_model()
    recommender = Recommender(bundle_of_run(run.folder, evidence=False))
    graph = normalized_interactions(model.interactions).toarray()
    users, items = model.n_users, model.n_items
    alike = model.backbone.user_graph(torch.eye(users)).numpy()
    item_table = model.scoring_tables()[1].detach().numpy()
    width = item_table.shape[1] // len(model.modalities)
    for m, modality in enumerate(model.modalities):
        with torch.no_grad():
            own = torch.nn.functional.normalize(model.backbone.user_preference[m]).numpy()
            content = model.backbone.projections[m](model.features[m])
            content = content * model.modality_mask[:, m : m + 1]
            content = torch.nn.functional.normalize(content).numpy()
        factors = np.ones(users)
        if name == "DRAGON":
            factors = model.user_weights[:, m].detach().numpy()
        sources = content + graph.T @ own
        direct = alike @ np.diag(factors) @ graph
        for user, item in ((1, 1), (3, 7), (20, 15)):
            row = item_table[item, m * width : (m + 1) * width]
            ids = (run.dataset.id2token("user_id", user), run.dataset.id2token("item_id", item))
            reasons = [r for r in recommender.explain(*map(str, ids)).reasons if r.name == modality]
            history = {r.item: r.value for r in reasons if r.source == "history"}
            known = np.flatnonzero(graph[user])
            expected = {
                str(run.dataset.id2token("item_id", int(j))): direct[user, j] * sources[j] @ row
                for j in known
            }
            assert history == pytest.approx(expected, abs=1e-5)
            (taste,) = (r.value for r in reasons if r.source == "taste")
            assert taste == pytest.approx(factors[user] * own[user] @ row, abs=1e-5)
            others = np.setdiff1d(np.arange(items), known)
            rest = direct[user, others] @ sources[others] @ row
            spread = alike[user] * factors
            spread[user] -= factors[user]
            rest += spread @ own @ row
            (found,) = (r.value for r in reasons if r.source == "users alike")
            assert found == pytest.approx(rest, abs=1e-5)


def test_a_doubtful_modality_comes_with_the_interval_of_all_rows(root: Path) -> None:
    bundle = bundle_of_run(trained(root, "MARGO"), evidence=True)
    assert bundle.reliability is not None and bundle.reliability.fitting is not None
    bundle.reliability.q_values[:] = 0.9
    bundle.reliability.fitting[:] = 0.6, 0.5, 0.7
    found = Recommender(bundle).explain("u1", "i3")
    said = "\n".join(found.sentences())
    assert "(q = 0.90; 60% of all rows fit, 95 % interval 50% to 70%)" in said
    assert "because of i" in said or "taste" in said or "users alike" in said
    plain = found.as_plain()
    assert plain["contributions"][0]["doubtful"] and plain["reasons"][0]["share"] > 0


def test_a_model_that_is_not_linear_in_a_history_has_no_reasons(root: Path) -> None:
    recommender = Recommender(bundle_of_run(trained(root, "MGCN"), evidence=False))
    assert recommender.bundle.history is None
    assert recommender.explain("u1", "i3").reasons == ()


def test_a_long_id_is_cut_in_a_chart() -> None:
    reason = Reason("image", HISTORY, 1.0, 1.0, "0123456789abcdef01234567", "")
    shown = _bars(Explanation("u", "i", "", 1.0, False, (), (reason,)))
    assert shown[0][0] == "because of 0123456789abcde…, image"
