"""The strict configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_margo.config import Config
from recbole_margo.defaults import parse_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.registry import multimodal_models


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key `learing_rate`.*learning_rate"):
        Config("MARGO", "ml-100k", config_dict={"learing_rate": 0.01})


def test_unknown_key_in_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("alpa: 0.5\n")
    with pytest.raises(ConfigError, match=r"unknown key `alpa`.*alpha"):
        Config("MARGO", "ml-100k", [str(file)])


def test_a_key_of_another_model_is_unknown() -> None:
    assert Config("MARGO", "ml-100k", config_dict={"alpha": 0.5})["alpha"] == 0.5
    with pytest.raises(ConfigError, match="unknown key `alpha` for model BPR"):
        Config("BPR", "ml-100k", config_dict={"alpha": 0.5})


def test_recbole_keys_without_yaml_are_known_from_the_model_source() -> None:
    # RecBole's YAML of ENMF and its source agree; NeuMF reads keys that its YAML names.
    assert (
        Config("NeuMF", "ml-100k", config_dict={"mf_embedding_size": 8})["mf_embedding_size"] == 8
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", "fast", "`learning_rate` must be a number"),
        ("epochs", True, "`epochs` must be a whole number"),
        ("use_gpu", 3, "`use_gpu` must be true or false"),
        ("eval_protocol", "random", r"must be one of \['recbole', 'mmrec'\]"),
        ("metrics", ["Precisoin"], "did you mean `Precision`"),
        ("topk", [0], "whole number, 1 or more, found 0"),
        ("reg_weight", -1, r"`reg_weight` must lie in \[0.0, inf\], found -1"),
        ("backbone", "VGG", "`backbone` must be one of"),
        ("tau", 0, "`tau` must lie in"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config("MARGO", "ml-100k", config_dict={key: value})


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean MARGO"):
        Config("MARG0", "ml-100k")


@pytest.mark.parametrize("name", ["../secret", "", "a/b"])
def test_a_dataset_is_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="name of a folder"):
        Config("BPR", name)


def test_values_win_over_files_and_files_over_shipped_values(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("alpha: 0.5\ntau: 2\n")
    config = Config("MARGO", "ml-100k", [str(file)], {"tau": 3.0})
    assert (config["alpha"], config["tau"]) == (0.5, 3.0)
    assert Config("MARGO", "ml-100k")["alpha"] == 1.0


def test_the_yaml_beside_a_dataset_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.yaml").write_text("modalities: [sound]\ntopk: [3]\nvalid_metric: Recall@3\n")
    config = Config("MARGO", "mine", config_dict={"data_path": str(tmp_path)})
    assert config["modalities"] == ["sound"]
    assert config["topk"] == [3]


def test_shipped_datasets_have_the_settings_of_the_papers() -> None:
    for name in ("baby", "sports", "clothing"):
        config = Config("MARGO", name)
        assert config["benchmark_filename"] == ["train", "valid", "test"]
        assert config["modalities"] == ["image", "text"]
        assert (config["epochs"], config["stopping_step"]) == (1000, 20)
        assert config["train_batch_size"] == 2048
        assert (config["valid_metric"], config["topk"]) == ("Recall@20", [10, 20])


def test_a_shipped_dataset_may_have_values_for_some_models_only() -> None:
    for name, weight in (("baby", 1e-3), ("sports", 1e-3), ("clothing", 0.1)):
        assert Config("MARGO", name)["learning_rate"] == 1e-4
        dragon = Config("DRAGON", name)
        assert (dragon["learning_rate"], dragon["reg_weight"]) == (1e-4, weight)
        assert Config("VBPR", name)["learning_rate"] == 1e-3
        assert "models" not in dragon.final_config_dict
    assert Config("MARGO", "baby", config_dict={"learning_rate": 0.01})["learning_rate"] == 0.01


def test_text_is_parsed_as_yaml_and_never_run() -> None:
    assert parse_yaml("1e-3") == 0.001
    assert parse_yaml("[text, 2]") == ["text", 2]
    harmless = "__import__('os').getcwd()"
    assert parse_yaml(harmless) == harmless
    assert Config("BPR", "ml-100k", config_dict={"data_path": harmless})["dataset"] == "ml-100k"
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_yaml("[1, 2")
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_yaml("!!python/object/apply:os.getcwd []")


def test_plain_config_rebuilds_an_equal_config(tmp_path: Path) -> None:
    values = {"alpha": 0.25, "data_path": str(tmp_path), "eval_protocol": "mmrec", "use_gpu": False}
    config = Config("MARGO", "lfm", config_dict=values)
    rebuilt = Config.from_plain(Config.as_plain(config))
    assert Config.as_plain(rebuilt) == Config.as_plain(config)
    for key in config.final_config_dict:
        assert rebuilt[key] == config[key], key


@pytest.mark.parametrize("model", multimodal_models())
def test_the_config_of_every_model_can_be_stored_and_read_again(model: str) -> None:
    config = Config(model, "ml-100k")
    rebuilt = Config.from_plain(Config.as_plain(config))
    assert rebuilt["train_neg_sample_args"] == config["train_neg_sample_args"]
    assert Config.as_plain(rebuilt) == Config.as_plain(config)


def test_use_gpu_false_means_the_cpu() -> None:
    assert Config("BPR", "ml-100k", config_dict={"use_gpu": False})["device"].type == "cpu"
