"""Settings that are wrong, or would be without effect, are refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_margo.cli import main
from recbole_margo.config import Config
from recbole_margo.data.protocol import load_dataset, prepare_loaders
from recbole_margo.defaults import parse_settings, read_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.registry import list_models
from recbole_margo.rules import intervals
from recbole_margo.run import resume_run, run_recbole_margo
from recbole_margo.settings.checks import without_effect
from recbole_margo.store.feature_files import write_features
from recbole_margo.testing import NAME, random_world
from recbole_margo.testing.experiments import SETTINGS

SHOP = "shop"
FAST = {"epochs": 1, "use_gpu": False, "show_progress": False, "train_batch_size": 64}


def write_shop(root: Path, columns: str = "user_id item_id rating timestamp") -> Path:
    """Write 12 users with 10 of 20 items each, rating 1 to 5, times that fall with the row."""
    random = np.random.default_rng(0)
    folder = root / SHOP
    folder.mkdir(parents=True)
    types = dict.fromkeys(columns.split()[2:], "float")
    header = "\t".join(f"{name}:{types.get(name, 'token')}" for name in columns.split())
    rows = [
        (f"u{user}", f"i{item}", 1 + place % 5, 1000 - place)
        for user in range(12)
        for place, item in enumerate(random.permutation(20)[:10])
    ]
    count = len(columns.split())
    lines = ["\t".join(map(str, row[:count])) for row in rows]
    (folder / f"{SHOP}.inter").write_text("\n".join([header, *lines, ""]))
    matrix = random.normal(size=(20, 4)).astype(np.float32)
    write_features(folder, SHOP, "text", matrix, [f"i{item}" for item in range(20)], "a test")
    return root


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path)


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    return random_world().write(tmp_path)


def config_of(root: Path, model: str = "VBPR", dataset: str = SHOP, **settings: Any) -> Config:
    return Config(model, dataset, config_dict={**FAST, "data_path": str(root), **settings})


WRONG: list[tuple[dict[str, Any], str]] = [
    # selection and metrics
    ({"valid_metric": "Recall@7"}, r"`valid_metric` .*Recall@10, Recall@20, .*found 'Recall@7'"),
    ({"valid_metric": "NDCG"}, r"`valid_metric` .*NDCG@10"),
    ({"valid_metric": ["Recall@10"]}, "`valid_metric` must be a word"),
    ({"topk": [5]}, r"`valid_metric` .*Recall@5.*found 'Recall@20'"),
    ({"topk": []}, r"`topk` must be a list of 1 or more"),
    ({"topk": [5, 0]}, "`topk` must be a whole number, 1 or more"),
    ({"topk": "5"}, "`topk` must be a whole number"),
    ({"metrics": ["Recal"]}, "did you mean `Recall`"),
    ({"metrics": []}, "`metrics` must be a list of 1 or more"),
    ({"metrics": ["Recall", "AUC"]}, "metrics of rankings alone, or of values alone"),
    # eval_args
    ({"eval_args": {"odrer": "TO"}}, "unknown key `odrer` in `eval_args`: did you mean `order`"),
    ({"eval_args": {"splits": {}}}, "unknown key `splits` in `eval_args`"),
    ({"eval_args": {"split": {"LO": 1}}}, "unknown key `LO` in `eval_args.split`"),
    ({"eval_args": {"mode": {"vaild": "full"}}}, "in `eval_args.mode`: did you mean `valid`"),
    ({"eval_args": "RO"}, "`eval_args` must be a mapping"),
    ({"eval_args": {"split": {"RS": [0.8, 0.2]}}}, "three numbers"),
    ({"eval_args": {"split": {"RS": [0.8, 0.1, 0.2]}}}, r"add up to 1 \(here 1.1\)"),
    ({"eval_args": {"split": {"RS": [1.2, -0.1, -0.1]}}}, "none below 0"),
    ({"eval_args": {"split": {"RS": [0.0, 0.5, 0.5]}}}, "the first above 0"),
    ({"eval_args": {"split": {"LS": "test"}}}, "valid_and_test"),
    ({"eval_args": {"split": {"RS": [8, 1, 1], "LS": "test_only"}}}, "one of {RS"),
    ({"eval_args": {"split": {"LS": "test_only"}, "group_by": "none"}}, "must be user"),
    ({"eval_args": {"order": "XX"}}, r"`eval_args.order` must be one of \['RO', 'TO'\]"),
    ({"eval_args": {"group_by": "item"}}, r"one of \['user', 'none'\]"),
    ({"eval_args": {"mode": "uni"}}, "uni100"),
    ({"eval_args": {"mode": "pop0"}}, "uni100"),
    ({"eval_args": {"mode": "labeled"}}, "only AUC, LogLoss, MAE, RMSE do"),
    # training
    ({"seed": -1}, "`seed` must be from 0"),
    ({"seed": 1.5}, "`seed`"),
    ({"split_seed": "x"}, "`split_seed`"),
    ({"epochs": -1}, "`epochs`"),
    ({"epochs": 2.5}, "`epochs`"),
    ({"train_batch_size": 0}, "`train_batch_size` must be a whole number, 1 or more"),
    ({"train_batch_size": [64]}, "`train_batch_size`"),
    ({"eval_batch_size": 0}, "`eval_batch_size`"),
    ({"learning_rate": 0}, "`learning_rate` must be a number above 0"),
    ({"learning_rate": float("nan")}, "`learning_rate`"),
    ({"weight_decay": -1e-3}, "`weight_decay`"),
    ({"stopping_step": -1}, "`stopping_step`"),
    ({"eval_step": -1}, "`eval_step`"),
    ({"loss_decimal_place": -1}, "`loss_decimal_place`"),
    ({"learner": "lion"}, r"`learner` must be one of \['adam'"),
    ({"clip_grad_norm": {"max_nrom": 1}}, "in `clip_grad_norm`: did you mean `max_norm`"),
    ({"clip_grad_norm": 5}, "`clip_grad_norm` must be a mapping"),
    ({"train_neg_sample_args": {"sample_nmu": 2}}, "did you mean `sample_num`"),
    ({"train_neg_sample_args": {"sample_num": 0}}, "`train_neg_sample_args.sample_num`"),
    ({"train_neg_sample_args": {"distribution": "normal"}}, "uniform"),
    ({"train_neg_sample_args": {"dynamic": True}}, "candidate_num"),
    ({"neg_sampling": {"uniform": 1}}, "no effect in RecBole: set `train_neg_sample_args`"),
    ({"state": "LOUD"}, "`state`"),
    ({"gpu_id": [0, 1]}, "'0,1'"),
    # data
    ({"user_inter_num_interval": 5}, "interval in quotes"),
    ({"item_inter_num_interval": "[9,5]"}, "interval in quotes"),
    ({"item_inter_num_interval": "5,inf"}, "interval in quotes"),
    ({"val_interval": {"rating": 3}}, "`val_interval.rating` must be an interval"),
    ({"val_interval": {"ratng": "[3,5]"}}, "the column `ratng`, found in shop.inter: user_id"),
    ({"load_col": {"inter": ["user_id", "item_id", "nothing"]}}, "a column `nothing`"),
    ({"load_col": {"intre": ["user_id"]}}, "in `load_col`: did you mean `inter`"),
    ({"load_col": {"user": ["user_id"]}}, "shop.user, which is not there"),
    ({"load_col": ["user_id"]}, "`load_col` must be a mapping"),
    ({"unload_col": {"inter": ["rating"]}}, "set `load_col` to null"),
    ({"rm_dup_inter": "middle"}, "`rm_dup_inter`"),
    ({"threshold": {"rating": 4}}, r'val_interval: \{rating: "\[4,inf\)"\}'),
]


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
@pytest.mark.parametrize(("settings", "message"), WRONG, ids=[str(each[0]) for each in WRONG])
def test_a_wrong_setting_is_refused(shop, model, settings, message):
    with pytest.raises(ConfigError, match=message):
        config_of(shop, model, **settings)


RIGHT: list[dict[str, Any]] = [
    {"topk": 5, "valid_metric": "recall@5"},
    {"metrics": "MRR", "valid_metric": "MRR@10"},
    {"metrics": ["Recall", "GAUC"], "valid_metric": "GAUC"},
    {"metrics": ["Recall", "ItemCoverage"], "valid_metric": "Recall@10"},
    {"eval_args": {"split": {"RS": [8, 1, 1]}}},
    {"eval_args": {"split": {"RS": [0.8, 0, 0.2]}}},
    {"eval_args": {"split": {"RS": [1, 0, 0]}}},
    {"eval_args": {"split": {"LS": "test_only"}}},
    {"eval_args": {"group_by": None}},
    {"eval_args": {"mode": {"valid": "uni10", "test": "full"}}},
    {"eval_step": 0, "stopping_step": 0},
    {"learner": "AdamW", "seed": 2**32 - 1},
    {"clip_grad_norm": {"max_norm": 5, "norm_type": 2}},
    {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 2}},
    {"user_inter_num_interval": "[2,inf);(0,1]", "item_inter_num_interval": [1, 50]},
    {"val_interval": {"rating": "[2,inf)", "item_id": ["i1", "i2"]}},
    {"load_col": None, "unload_col": {"inter": ["rating"]}},
    {"load_col": {"inter": "*"}},
    {"gpu_id": "0,1"},
    {"gpu_id": 0},
]


@pytest.mark.parametrize("settings", RIGHT, ids=map(str, RIGHT))
def test_a_right_setting_passes(shop, settings):
    config_of(shop, **settings)


def test_the_defaults_of_every_model_pass_and_come_back_from_a_record():
    for entry in list_models():
        if entry.name in ("LightGBM", "XGBoost"):  # need libraries of their own
            continue
        for dataset in ("ml-100k", "another"):
            config = Config(entry.name, dataset)
            record = Config.as_plain(config)
            assert Config.as_plain(Config.from_plain(record)) == record, entry.name


def test_recboles_other_models_keep_what_only_they_can_do(shop):
    values = {"eval_args": {"mode": "labeled"}, "threshold": {"rating": 4}}
    config = config_of(shop, "FM", **values, metrics=["AUC", "LogLoss"], valid_metric="LogLoss")
    assert config["eval_args"]["mode"] == {"valid": "labeled", "test": "labeled"}
    assert not config["valid_metric_bigger"]
    assert Config("FM", "ml-100k")["valid_metric"] == "AUC"
    assert config_of(shop, "SASRec")["train_neg_sample_args"]["distribution"] == "none"
    with pytest.raises(ConfigError, match="must be TO for the sequential model SASRec"):
        config_of(shop, "SASRec", eval_args={"split": {"LS": "valid_and_test"}})


def test_the_command_line_ends_with_status_2_and_one_line(shop, capsys):
    words = ["train", "--model=VBPR", f"--dataset={SHOP}", f"--data_path={shop}"]
    for wrong in ("--valid_metric=Recall@7", "--learner=lion", "--eval_args={mode: uni}"):
        assert main([*words, wrong]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: `") and shown.count("\n") == 1


def test_intervals_can_be_written_as_they_are():
    words = ["--a=[5,inf)", "--b=(0, 10]", "--c", "[1,2);(4,5]", "--d=[5,10]", "--e={x: [1, 2]}"]
    values = parse_settings(words)
    assert values["a"] == "[5,inf)" and values["d"] == [5, 10] and values["e"] == {"x": [1, 2]}
    for key in "abcd":
        intervals(key, values[key])


def test_a_caller_keeps_nested_mappings_as_they_are(shop):
    given = {"sample_num": 2}
    config = config_of(shop, train_neg_sample_args=given)
    assert given == {"sample_num": 2}
    assert config["train_neg_sample_args"]["distribution"] == "uniform"


# --- columns --------------------------------------------------------------------------------------


def kept_order(root: Path, **settings: Any) -> tuple[Config, Any]:
    config = config_of(root, "BPR", **settings)
    return config, prepare_loaders(config, load_dataset(config), config.model_class)


def test_an_order_by_time_loads_the_times(shop):
    arguments = {"split": {"LS": "valid_and_test"}, "order": "TO"}
    config, loaders = kept_order(shop, eval_args=arguments)
    assert Config.as_plain(config)["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}
    # Times fall with the row, so the latest of every user, place 0, is tested.
    firsts = {}
    for line in (shop / SHOP / f"{SHOP}.inter").read_text().splitlines()[1:]:
        user, item, *_ = line.split("\t")
        firsts.setdefault(user, item)
    test = loaders[2]._dataset
    users = test.id2token("user_id", test.inter_feat["user_id"])
    items = test.id2token("item_id", test.inter_feat["item_id"])
    assert dict(zip(users, items, strict=True)) == firsts


def test_values_are_filtered_without_naming_their_column_twice(shop):
    _, loaders = kept_order(shop, val_interval={"rating": "[4,inf)"})
    assert sum(len(loader._dataset) for loader in loaders) == 12 * 4


def test_an_order_by_time_without_times_says_what_there_is(tmp_path):
    root = write_shop(tmp_path, "user_id item_id rating when")
    for arguments in ({"order": "TO"}, {"split": {"TS": [0.8, 0.1, 0.1]}}):
        with pytest.raises(ConfigError, match=r"`timestamp`.*rating, when: set TIME_FIELD"):
            config_of(root, eval_args=arguments)
    config = config_of(root, eval_args={"order": "TO"}, TIME_FIELD="when")
    assert config["load_col"]["inter"] == ["user_id", "item_id", "when"]


@pytest.mark.parametrize("verb", ["train --model=VBPR", "train --model=BPR", "inspect"])
def test_columns_of_other_names_are_named(tmp_path, verb, capsys):
    root = write_shop(tmp_path, "uid product rating")
    assert main([*verb.split(), f"--dataset={SHOP}", f"--data_path={root}"]) == 2
    shown = capsys.readouterr().err
    assert "found uid, product, rating: set USER_ID_FIELD and ITEM_ID_FIELD" in shown
    named = {"USER_ID_FIELD": "uid", "ITEM_ID_FIELD": "product"}
    dataset = load_dataset(config_of(root, "BPR", **named))
    assert (dataset.user_num, dataset.item_num) == (13, 21)


def test_a_first_line_without_types_is_shown(tmp_path):
    root = write_shop(tmp_path)
    (root / SHOP / f"{SHOP}.inter").write_text("user_id,item_id\nu1,i1\n")
    with pytest.raises(ConfigError, match=r"names? columns and types.*found 'user_id,item_id'"):
        config_of(root)


# --- a split that files fix -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}, "eval_args.split"),
        ({"eval_args": {"order": "TO"}}, "eval_args.order"),
        ({"eval_args": {"group_by": "user"}}, "eval_args.group_by"),
        ({"user_inter_num_interval": "[5,inf)"}, "user_inter_num_interval"),
        ({"item_inter_num_interval": "[5,inf)"}, "item_inter_num_interval"),
        ({"val_interval": {"item_id": ["i1"]}}, "val_interval"),
        ({"rm_dup_inter": "first"}, "rm_dup_inter"),
    ],
)
def test_a_setting_that_a_fixed_split_leaves_without_effect_is_refused(fixed, settings, key):
    message = rf"`{key}` has no effect on dataset {NAME}: .*{NAME}.train.inter.*convert"
    with pytest.raises(ConfigError, match=message):
        config_of(fixed, dataset=NAME, **settings)
    joint = (fixed / NAME / f"{NAME}.train.inter").read_text()
    (fixed / NAME / f"{NAME}.inter").write_text(joint)
    with pytest.raises(ConfigError, match="set `benchmark_filename` to null"):
        config_of(fixed, dataset=NAME, **settings)


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
def test_a_record_holds_the_split_that_was_used_and_can_be_resumed(fixed, tmp_path, model):
    values = {**FAST, "data_path": str(fixed), "eval_args": {"mode": "uni5"}}
    with pytest.raises(ConfigError, match="first 20 items, but the dataset has 15"):
        run_recbole_margo(model, NAME, config_dict=values, output_dir=tmp_path / "long")
    values |= {"topk": [5], "valid_metric": "Recall@5"}
    folder = tmp_path / "run"
    run_recbole_margo(model, NAME, config_dict=values, output_dir=folder)
    record = json.loads((folder / model / "result.json").read_text())
    assert record["config"]["eval_args"] == {
        "split": {"benchmark_filename": ["train", "valid", "test"]},
        "order": None,
        "group_by": None,
        "mode": {"valid": "uni5", "test": "uni5"},
    }
    assert record["config"]["user_inter_num_interval"] is None
    if model == "VBPR":
        again = resume_run(folder / model / "checkpoint-last.pth")
        assert (again["split"], again["test"]) == (record["split"], record["test"])


def test_a_part_of_eval_args_is_recorded_with_what_was_used_for_the_rest(shop):
    record = Config.as_plain(
        config_of(shop, eval_args={"order": "TO"}, topk=5, valid_metric="NDCG@5")
    )
    assert record["eval_args"] == {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "TO",
        "group_by": "user",
        "mode": {"valid": "full", "test": "full"},
    }
    assert record["topk"] == [5]


def test_records_of_before_are_taken_as_they_are(fixed):
    record = Config.as_plain(config_of(fixed, dataset=NAME))
    arguments = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user"}
    record["eval_args"] = {**arguments, "mode": "full"}
    record |= {"learner": "lion", "user_inter_num_interval": "[3,inf)"}
    assert Config.from_plain(record)["learner"] == "lion"


@pytest.mark.parametrize("model", ["FM", "DeepFM", "WideDeep"])
def test_labels_that_no_column_has_are_asked_for(shop, model):
    with pytest.raises(ConfigError, match=r"needs the column `label`, .*\{rating: 4\}"):
        config_of(shop, model)
    config_of(shop, model, threshold={"rating": 4})


def test_a_column_of_labels_is_loaded(tmp_path):
    write_shop(tmp_path, "user_id item_id label timestamp")
    config = config_of(tmp_path, "FM", load_col={"inter": ["user_id", "item_id"]})
    assert "label" in config["load_col"]["inter"]


@pytest.mark.parametrize("interval", ["[5,inf)", "[ 2, 10)"])
def test_an_interval_without_quotes_in_a_file_is_said(tmp_path, interval):
    file = tmp_path / "a.yaml"
    file.write_text(f"user_inter_num_interval: {interval}\nepochs: 1\n")
    with pytest.raises(ConfigError, match="in quotes, ") as refused:
        read_yaml(file)
    assert f'"{interval}"' in str(refused.value)


def test_what_changes_nothing_is_said_in_the_log(fixed, tmp_path):
    negatives = {"distribution": "popularity", "sample_num": 1}
    given = {
        **SETTINGS,
        "split_seed": 3,
        "train_neg_sample_args": negatives,
        "data_path": str(fixed),
    }
    for model, count in (("BM3", 2), ("VBPR", 1)):
        run_recbole_margo(model, NAME, config_dict={**FAST, **given}, output_dir=tmp_path / model)
        log = (tmp_path / model / model / "train.log").read_text()
        assert log.count("has no effect") == count
    sampled = {**given, "eval_args": {"mode": "uni5"}}
    assert without_effect(Config("VBPR", NAME, config_dict={**FAST, **sampled})) == []
