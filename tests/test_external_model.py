"""Models that other packages bring: announced by an entry point, or handed over as a class."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from recbole_margo.testing import NAME, random_world

ROOT = Path(__file__).resolve().parents[1]
MODULE = '''
from dataclasses import dataclass

from torch import nn

from recbole_margo import MultimodalRecommender
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter


@dataclass(frozen=True, kw_only=True)
class OwnParameters(MultimodalParameters):
    penalty: float = hyperparameter("weight of the penalty", low=0.0, search=(1e-4, 1e-1, "log"))
    width: int = hyperparameter("width of nothing", default=3)


class Own(MultimodalRecommender):
    """Factors of users and of contents."""

    parameters_class = OwnParameters

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        assert self.hyperparameters.width == 3
        size = self.hyperparameters.embedding_size
        self.user = nn.Embedding(self.n_users, size)
        self.projections = nn.ModuleList(nn.Linear(f.shape[1], size) for f in self.features)

    def scoring_tables(self):
        return self.user.weight, sum(self.project_features(self.projections))

    def calculate_loss(self, interaction):
        users, items = self.scoring_tables()
        ranking, penalty = self.ranking_and_penalty(interaction, users, items)
        return ranking + self.hyperparameters.penalty * penalty
'''
VALUES = "{embedding_size: 6, train_features: false, learning_rate_decay: 1.0, penalty: 0.125}"
POINTS = """
[recbole_margo.models]
Own = own_models.factors:Own
Alias = own_models.factors:Own
Absent = own_models.absent:Absent
Exits = own_models.exits:Exits
NoClass = own_models.factors:VALUE
Malformed = own models
"""
KEYS = [
    f"--dataset={NAME}",
    "--data_path=data",
    "--topk=[5]",
    "--valid_metric=Recall@5",
    "--use_gpu=false",
]
TRAIN = ["train", *KEYS, "--epochs=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, and an installed distribution in `site`."""
    place = tmp_path_factory.mktemp("place")
    random_world().write(place / "data")
    package = place / "site" / "own_models"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "factors.py").write_text(MODULE + "\n\nVALUE = 3\n")
    (package / "Own.yaml").write_text(VALUES)
    (package / "exits.py").write_text("raise SystemExit(9)\n")
    about = package.with_name("own_models-1.0.dist-info")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-models\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    return place


def python(place: Path, *arguments: str, path: str = "site", status: int = 0) -> str:
    """Run Python in a folder, with one more on its path; returns what it wrote."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(place / path), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stderr
    return result.stdout + result.stderr


def command(place: Path, *words: str, status: int = 0) -> str:
    code = "import sys; from recbole_margo.cli import main; sys.exit(main())"
    return python(place, "-c", code, *words, status=status)


def record(place: Path, output: str, model: str = "Own") -> dict:
    return json.loads((place / output / model / "result.json").read_text())


LOAD = """
import sys
import numpy as np
import recbole_margo
{before}
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer
config, model, dataset, train, valid, test = load_data_and_model(sys.argv[1])
trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
print("RESULT", trainer.evaluate(test, load_best_model=False)["recall@5"])
"""


def loaded_recall(place: Path, checkpoint: str, before: str = "", path: str = "site") -> float:
    code = textwrap.dedent(LOAD).format(before=before)
    shown = python(place, "-c", code, checkpoint, path=path)
    [line] = [line for line in shown.splitlines() if line.startswith("RESULT")]
    return float(line.split()[1])


def test_an_announced_model_trains_with_its_values_and_is_loaded(place: Path) -> None:
    command(place, *TRAIN, "--model=Own", "--output_dir=trained")
    found = record(place, "trained")
    assert found["hyperparameters"]["penalty"] == 0.125
    assert found["hyperparameters"]["embedding_size"] == 6
    assert found["hyperparameters"]["width"] == 3
    checkpoint = "trained/Own/checkpoint.pth"
    expected = pytest.approx(found["test"]["recall@5"], abs=1e-4)
    assert loaded_recall(place, checkpoint, "recbole_margo.register()") == expected
    assert loaded_recall(place, checkpoint) == expected, "the class is enough"


def test_stock_recbole_trains_it_after_register(place: Path) -> None:
    code = f"""
    import recbole_margo
    recbole_margo.register()
    from recbole.quick_start import run_recbole
    from recbole.utils import get_model, get_trainer
    values = dict(data_path="data", epochs=1, use_gpu=False, topk=[5], valid_metric="Recall@5",
                  benchmark_filename=["train", "valid", "test"], modalities=["image", "text"],
                  load_col=dict(inter=["user_id", "item_id"]), checkpoint_dir="stock")
    run_recbole(model="Own", dataset={NAME!r}, config_dict=values)
    assert get_model("Alias") is get_model("Own")
    assert get_trainer(None, "Own").__name__ == "MultimodalTrainer"
    """
    shown = python(place, "-c", textwrap.dedent(code))
    assert "the model Absent of own-models cannot be imported" in shown


def test_an_interrupted_run_of_it_goes_on(place: Path) -> None:
    code = f"""
    import recbole_margo.run
    from recbole_margo.training.trainer import MultimodalTrainer
    def interrupted(*_):
        raise KeyboardInterrupt
    MultimodalTrainer._end_stage = interrupted
    from recbole_margo.cli import main
    raise SystemExit(main({[*TRAIN, "--model=Own", "--output_dir=half"]!r}))
    """
    python(place, "-c", textwrap.dedent(code), status=130)
    command(place, *TRAIN, "--model=Own", "--output_dir=whole")
    command(place, "train", "--resume=half")
    assert record(place, "half")["test"] == record(place, "whole")["test"]


def test_it_is_compared_and_tuned(place: Path) -> None:
    pytest.importorskip("optuna")
    command(
        place, "compare", "--models=Own,BPR", "--seeds=1", *KEYS, "--epochs=1", "--output_dir=c"
    )
    assert (place / "c" / "seed-1" / "Own" / "result.json").is_file()
    words = ["--model=Own", "--trials=2", *KEYS, "--epochs=1", "--output_dir=t"]
    command(place, "tune", *words)
    assert "penalty" in (place / "t" / "best.yaml").read_text()


def test_the_lists_of_models_survive_what_others_announce(place: Path) -> None:
    for listed in (command(place, "models"), command(place, "train", "--help")):
        assert all(name in listed for name in ("MARGO", "Own", "without a paper", "Absent"))
        assert "No module" in listed
    shown = command(place, "models", "Own")
    assert "0.125" in shown
    assert "weight of the penalty" in shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Absent", "ModuleNotFoundError"),
        ("Exits", "SystemExit"),
        ("NoClass", "must be a class"),
        ("Malformed", "cannot be imported"),
    ],
)
def test_a_model_that_cannot_be_had_is_an_error_of_one_line(
    place: Path, name: str, said: str
) -> None:
    shown = command(place, *TRAIN, f"--model={name}", "--output_dir=none", status=2)
    assert said in shown
    assert "own-models" in shown
    assert len(shown.strip().splitlines()) == 1


HAND_OVER = f"""
import sys
from recbole_margo import run_recbole_margo
from factors import Own
values = dict(data_path="data", epochs=2, use_gpu=False, topk=[5], valid_metric="Recall@5")
print(run_recbole_margo(Own, {NAME!r}, config_dict=values | dict(nproc=int(sys.argv[2])),
                        output_dir=sys.argv[1])["test"])
"""


@pytest.fixture(scope="module")
def handed(place: Path) -> dict:
    """The record of a class that was handed over, of a module that nobody announces."""
    package = place / "loose"
    package.mkdir()
    (package / "factors.py").write_text(MODULE)
    (package / "Own.yaml").write_text(VALUES.replace("0.125", "0.25"))
    (place / "hand_over.py").write_text(
        # The guard that starting processes asks for.
        HAND_OVER.replace("\nvalues", "\nif __name__ == '__main__':\n  values").replace(
            "\nprint", "\n  print"
        )
    )
    python(place, "hand_over.py", "handed", "1", path="loose")
    return record(place, "handed")


def test_a_class_that_was_handed_over_is_loaded_when_it_is_imported(
    place: Path, handed: dict
) -> None:
    assert handed["hyperparameters"]["penalty"] == 0.25
    found = loaded_recall(
        place, "handed/Own/checkpoint.pth", "import factors; recbole_margo.register()", "loose"
    )
    assert found == pytest.approx(handed["test"]["recall@5"], abs=1e-4)


def test_a_class_of_a_module_that_is_not_imported_is_refused(place: Path, handed: dict) -> None:
    """Also where the module could be imported: a file does not decide what code runs."""
    witness = place / "loose" / "factors.py"
    witness.write_text(MODULE + "\nprint('IMPORTED')\n")
    code = textwrap.dedent(LOAD).format(before="")
    checkpoint = "handed/Own/checkpoint.pth"
    shown = python(place, "-c", code, checkpoint, path="loose", status=1)
    witness.write_text(MODULE)
    assert "import its module first" in shown.splitlines()[-1]
    assert "factors" in shown.splitlines()[-1]
    assert "IMPORTED" not in shown
    # An announced model of the same name is not taken for it.
    assert "import its module first" in python(place, "-c", code, checkpoint, status=1)
    assert "import its module first" in command(
        place, "train", "--resume=handed/Own/checkpoint-last.pth", status=2
    )


def test_a_run_of_a_class_is_resumed_when_it_is_imported(place: Path, handed: dict) -> None:
    code = """
    import factors
    from recbole_margo import resume_run
    print("RESULT", resume_run("handed/Own/checkpoint-last.pth")["test"] == {})
    """
    before = handed["test"]
    python(place, "-c", textwrap.dedent(code), path="loose")
    assert record(place, "handed")["test"] == before


def test_several_processes_share_a_class(place: Path, handed: dict) -> None:
    python(place, "hand_over.py", "several", "2", path="loose")
    several = record(place, "several")
    assert several["processes"] == 2
    assert several["test"] == pytest.approx(handed["test"], abs=1e-6)


@pytest.mark.parametrize(
    "reference",
    ["os:system", "recbole_margo.registry:find_model", "os:path.join", "subprocess:Popen"],
)
def test_a_reference_reaches_nothing_but_models(reference: str) -> None:
    from recbole_margo.errors import ConfigError
    from recbole_margo.registry import find_stored_model

    with pytest.raises(ConfigError, match="import its module first"):
        find_stored_model("Own", reference)


def test_a_module_with_a_lazy_import_imports_nothing_for_a_file() -> None:
    code = """
    import sys, recbole_margo
    from recbole_margo.errors import ConfigError
    from recbole_margo.registry import find_stored_model, multimodal_models
    multimodal_models()
    before = set(sys.modules)
    try:
        find_stored_model("x", "recbole_margo:compare")
    except ConfigError:
        print(sorted(set(sys.modules) - before))
    """
    assert python(ROOT, "-c", textwrap.dedent(code)).strip() == "[]"
