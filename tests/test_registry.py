"""Which models can be named."""

from __future__ import annotations

import pytest

from recbole_margo import registry
from recbole_margo.errors import ConfigError


def test_ours_and_recboles_models_are_listed_once() -> None:
    names = [entry.name for entry in registry.list_models()]
    assert len(names) == len(set(names))
    assert {"MARGO", "DRAGON", "BPR", "LightGCN", "SASRec", "KGAT", "FM"} <= set(names)
    # RecBole 1.2.1 documents 94 models; the reader must not silently lose some of them.
    assert len(registry.recbole_models()) >= 85


def test_every_recbole_model_that_is_listed_can_be_loaded() -> None:
    from recbole.model.abstract_recommender import AbstractRecommender

    for name in ("BPR", "NeuMF", "GRU4Rec", "CKE", "DeepFM"):
        assert issubclass(registry.find_model(name), AbstractRecommender)


def test_all_stands_for_our_models_and_recboles_plain_ones() -> None:
    ours = [
        name
        for name, entry in registry.multimodal_models().items()
        if entry.source == "recbole-margo"
    ]
    assert len(ours) == 11
    assert registry.expand_names(["all"]) == [*ours, "BPR", "LightGCN"]
    assert registry.expand_names(["BPR", "all", "MARGO"]) == ["BPR", *ours, "LightGCN"]
    assert registry.expand_names(["SASRec"]) == ["SASRec"]


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*LightGCN"):
        registry.find_model("LigthGCN")
    with pytest.raises(ConfigError, match="recbole-margo models"):
        registry.find_model("qqqqqqqq")


def test_a_third_party_model_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    point = importlib.metadata.EntryPoint(
        "OtherModel", "recbole_margo.model.margo:MARGO", registry.ENTRY_POINT_GROUP
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    registry.multimodal_models.cache_clear()
    try:
        assert registry.multimodal_models()["OtherModel"].module == "recbole_margo.model.margo"
    finally:
        registry.multimodal_models.cache_clear()
