"""A dataset's own YAML: it describes data, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import recbole
import yaml
from recbole.utils.argument_list import dataset_arguments

from dataset_converters.base import dataset_config
from dataset_converters.mmrec import TRAINING
from recbole_margo.cli import main
from recbole_margo.config import Config
from recbole_margo.defaults import DATASET_KEYS, properties_folder, read_dataset_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.testing import NAME, random_world

RECBOLE = Path(recbole.__file__).parent / "properties"
DESCRIBING = ("sample.yaml", "ml-100k.yaml")
OTHERS = ("url.yaml", "kg_url.yaml")  # of its downloads


def test_what_ships_and_what_converters_write_may_be_said(tmp_path: Path) -> None:
    files = [
        *(properties_folder() / "dataset").glob("*.yaml"),
        *(path for path in (RECBOLE / "dataset").glob("*.yaml") if path.name not in OTHERS),
    ]
    assert {path.name for path in files} >= set(DESCRIBING)
    for path in files:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "models" in values:  # values of single models come with the package alone
            assert path.is_relative_to(properties_folder())
            with pytest.raises(ConfigError, match="found `models`"):
                read_dataset_yaml(path)
            del values["models"]
            path = tmp_path / path.name
            path.write_text(yaml.safe_dump(values), encoding="utf-8")
        assert read_dataset_yaml(path), path
    for values in (
        dataset_config(["image"]),
        dataset_config([]),
        dataset_config(["text"], **TRAINING),
    ):
        (tmp_path / "written.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        assert read_dataset_yaml(tmp_path / "written.yaml") == values
    assert set(dataset_arguments) <= DATASET_KEYS


def test_no_key_of_recbole_that_is_not_about_data_may_be_said() -> None:
    overall = yaml.safe_load((RECBOLE / "overall.yaml").read_text(encoding="utf-8"))
    sizes = {"epochs", "stopping_step", "eval_step", "train_batch_size"}
    evaluation = {
        *("eval_args", "repeatable", "metrics", "topk", "valid_metric", "valid_metric_bigger"),
        *("eval_batch_size", "metric_decimal_place"),
    }
    assert DATASET_KEYS & set(overall) == sizes | evaluation
    ours = yaml.safe_load((properties_folder() / "overall.yaml").read_text(encoding="utf-8"))
    assert not DATASET_KEYS & {"feature_path", "feature_corruption"} & set(ours)


@pytest.mark.parametrize(
    "key",
    [
        *("dataset_save_path", "dataloaders_save_path", "checkpoint_dir", "data_path"),
        *("save_dataset", "save_dataloaders", "gpu_id", "log_wandb", "wandb_project", "state"),
        *("feature_path", "teacher", "warm_up", "pretrain_path", "nproc", "ip", "learning_rate"),
        *("config_file", "seed", "model", "no_such_key", "benchmark_filenames"),
    ],
)
def test_another_key_is_an_error_that_names_key_and_file(key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"topk: [5]\n{key}: harmless\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"mine\.yaml: .*found `{key}`: .*--config_files"):
        read_dataset_yaml(path)


@pytest.mark.parametrize("key", ["1", "true", "~", "2020-01-01"])
def test_a_key_that_is_no_text_is_an_error(key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{key}: harmless\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="may only describe data"):
        read_dataset_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("benchmark_filename: [train, ../../secret, test]", "parts of file names"),
        ("additional_feat_suffix: /etc/passwd", "parts of file names"),
        ("additional_feat_suffix: [[a]]", "parts of file names"),
        ("field_separator: (a+)+b", "single character"),
        ("seq_separator: ''", "single character"),
        ("field_separator: 3", "single character"),
    ],
)
def test_values_stay_in_the_folder_and_end(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_dataset_yaml(path)


def test_the_command_line_refuses_such_a_dataset_and_obeys_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = random_world().write(tmp_path / "data")
    with (root / NAME / f"{NAME}.yaml").open("a", encoding="utf-8") as file:
        file.write("checkpoint_dir: elsewhere\n")
    assert main(["train", "--model=BPR", f"--dataset={NAME}", f"--data_path={root}"]) == 2
    printed = capsys.readouterr().err.strip()
    assert len(printed.splitlines()) == 1
    assert f"{NAME}.yaml" in printed
    assert "`checkpoint_dir`" in printed

    (root / NAME / f"{NAME}.yaml").write_text("topk: [5]\nvalid_metric: Recall@5\n")
    (tmp_path / "mine.yaml").write_text("checkpoint_dir: elsewhere\nlearning_rate: 0.5\n")
    config = Config("BPR", NAME, ["mine.yaml"], {"data_path": str(root)})
    assert (config["checkpoint_dir"], config["learning_rate"]) == ("elsewhere", 0.5)
    assert config["topk"] == [5]
