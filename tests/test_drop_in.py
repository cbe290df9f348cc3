"""Our models inside stock RecBole, and RecBole's models through our command."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import recbole.config
import recbole.quick_start
import torch
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_topk

import recbole_margo
from recbole_margo.errors import ConfigError, UnknownModelError
from recbole_margo.model.margo import MARGO
from recbole_margo.model.vbpr import VBPR
from recbole_margo.testing import NAME, SETTINGS, World, random_world, small_settings
from recbole_margo.training.trainer import MultimodalTrainer

ROOT = Path(__file__).resolve().parents[1]
MASKED_AT_TEST = 5  # four training items and one validation item a user


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Write a world and work in its folder, because RecBole writes into the working folder."""
    world = random_world()
    world.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    return world


def stock_settings(model: str, root: Path, **changes: Any) -> dict[str, Any]:
    """Return what a user of stock RecBole writes into `config_dict`."""
    return {
        **SETTINGS,
        **small_settings(model),
        "data_path": str(root),
        "checkpoint_dir": str(root / "saved"),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_batch_size": 10_000,
        **changes,
    }


def test_registered_names_run_in_stock_recbole(tmp_path: Path, world: World) -> None:
    recbole_margo.register()
    assert get_model("MARGO") is MARGO
    settings = stock_settings("MARGO", tmp_path)
    config = recbole.config.Config(model="MARGO", dataset=NAME, config_dict=dict(settings))
    assert get_trainer(config["MODEL_TYPE"], "MARGO") is MultimodalTrainer

    result = recbole.quick_start.run_recbole(model="MARGO", dataset=NAME, config_dict=settings)
    assert 0.0 <= result["test_result"]["recall@5"] <= 1.0

    # Beside the result lie `<name>-last.pth` and `<name>-stage1.pth`.
    saved = min((tmp_path / "saved").glob("MARGO-*.pth"), key=lambda path: len(path.name))
    loaded = recbole.quick_start.load_data_and_model(str(saved))
    config, model, dataset, _, _, test = loaded
    assert Trainer(config, model).evaluate(test, load_best_model=False) == result["test_result"]

    users = dataset.token2id(dataset.uid_field, ["u0", "u7"])
    scores, items = full_sort_topk(users, model, test, k=5)
    assert torch.isfinite(scores).all()
    for user, ranked in zip(("u0", "u7"), items.tolist(), strict=True):
        tokens = {str(token) for token in dataset.id2token(dataset.iid_field, ranked)}
        assert not tokens & world.items_of(user, "train", "valid")
        assert "[PAD]" not in tokens


def test_the_class_works_with_stock_config_and_plain_trainer(
    tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    settings = stock_settings("MARGO", tmp_path)
    config = recbole.config.Config(model=MARGO, dataset=NAME, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    model = MARGO(config, train.dataset).to(config["device"])
    before = model.weight_logits.detach().clone()
    trainer = Trainer(config, model)
    with caplog.at_level(logging.WARNING):
        trainer.fit(train, valid, show_progress=False)
    assert [r for r in caplog.records if "trainer without stages" in r.message], "no warning"
    assert not torch.equal(before, model.weight_logits)
    assert set(trainer.evaluate(test)) == {"recall@5", "ndcg@5"}


def test_stock_config_fills_what_the_project_ships(tmp_path: Path, world: World) -> None:
    settings = stock_settings("MARGO", tmp_path)
    config = recbole.config.Config(model=MARGO, dataset=NAME, config_dict=settings)
    train = data_preparation(config, create_dataset(config))[0]
    model = MARGO(config, train.dataset)
    assert (config["alpha"], config["tau"]) == (1.0, 1.0)
    assert model.hyperparameters.embedding_size == small_settings("MARGO")["embedding_size"]


def test_a_recbole_baseline_gives_the_same_numbers_through_our_command(
    tmp_path: Path, world: World
) -> None:
    settings = stock_settings("LightGCN", tmp_path, embedding_size=8, n_layers=2, reg_weight=1e-4)
    theirs = recbole.quick_start.run_recbole(
        model="LightGCN", dataset=NAME, config_dict=dict(settings)
    )
    ours = recbole_margo.run_recbole_margo(
        "LightGCN", NAME, config_dict=settings, output_dir=tmp_path / "run"
    )
    # Our record keeps all decimals of the test, RecBole's result four.
    rounded = {name: round(value, 4) for name, value in ours["test"].items()}
    assert rounded == theirs["test_result"]
    assert ours["valid"] == theirs["best_valid_result"]
    assert ours["stages"][0]["best_score"] == theirs["best_valid_score"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MARGOO", "did you mean MARGO"),
        ("margo", "did you mean MARGO"),
        ("BRP", "did you mean BPR"),
        ("lightgcn", "did you mean LightGCN"),
        ("nothinglikeit", "`recbole-margo models` lists them all"),
    ],
)
def test_stock_recbole_says_what_is_wrong_with_a_name(name: str, said: str) -> None:
    with pytest.raises(UnknownModelError, match=re.escape(said)) as caught:
        recbole.config.Config(model=name, dataset=NAME)
    assert repr(name) in str(caught.value)
    assert isinstance(caught.value, ValueError)  # as RecBole's own error is


def test_stock_recbole_names_register(tmp_path: Path) -> None:
    # In a process of its own: elsewhere the names are registered already.
    code = """
        import recbole_margo
        from recbole.utils import get_model
        from recbole_margo.errors import UnknownModelError
        for name in ("VBPR", "VBRP"):
            try:
                get_model(name)
            except UnknownModelError as error:
                print("recbole_margo.register()" in str(error), "lightgbm" in str(error))
        recbole_margo.register()
        print(get_model("VBPR").__name__)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["True", "False", "True", "False", "VBPR"]


def test_a_model_that_recbole_has_but_cannot_import_keeps_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "recbole.model.exlib_recommender", None)
    with pytest.raises(ModuleNotFoundError, match="exlib_recommender"):
        get_model("XGBoost")


def without(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def test_stock_recbole_reads_what_a_converter_wrote(tmp_path: Path, world: World) -> None:
    recbole_margo.register()
    given = stock_settings("VBPR", tmp_path)
    bare = without(given, "benchmark_filename", "load_col")
    results = [
        recbole.quick_start.run_recbole(model="VBPR", dataset=NAME, config_dict=dict(settings))
        for settings in (given, bare)
    ]
    assert results[0] == results[1]


def test_what_the_user_gives_is_stronger_than_the_datasets_yaml(
    tmp_path: Path, world: World
) -> None:
    settings = stock_settings("VBPR", tmp_path, benchmark_filename=["train", "valid", "valid"])
    config = recbole.config.Config(model=VBPR, dataset=NAME, config_dict=settings)
    assert config["benchmark_filename"] == ["train", "valid", "valid"]
    assert config["modalities"] == list(world.features)


@pytest.mark.parametrize("key", ["dataset_save_path", "data_path", "use_gpu"])
def test_a_datasets_yaml_reaches_nothing_else_in_stock_recbole(
    tmp_path: Path, world: World, key: str
) -> None:
    with (tmp_path / NAME / f"{NAME}.yaml").open("a", encoding="utf-8") as file:
        file.write(f"{key}: elsewhere\n")
    with pytest.raises(ConfigError, match=key):
        recbole.config.Config(model=VBPR, dataset=NAME, config_dict={"data_path": str(tmp_path)})


def test_recboles_models_read_it_only_where_nothing_else_is_there(
    tmp_path: Path, world: World
) -> None:
    settings = stock_settings("BPR", tmp_path)
    bare = without(settings, "benchmark_filename", "load_col")
    config = recbole.config.Config(model="BPR", dataset=NAME, config_dict=dict(bare))
    assert config["benchmark_filename"] == ["train", "valid", "test"]
    given = recbole.config.Config(model="BPR", dataset=NAME, config_dict=dict(settings))
    assert "modalities" not in given
    (tmp_path / NAME / f"{NAME}.inter").write_text("user_id:token\titem_id:token\n")
    alone = recbole.config.Config(model="BPR", dataset=NAME, config_dict=dict(bare))
    assert alone["benchmark_filename"] is None and "modalities" not in alone
