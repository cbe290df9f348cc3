"""The contract on a model of another package: the documented example, and faults put into it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import recbole_margo.testing
from recbole_margo.testing import MISSING, ModelContract

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^`([\w/]+\.(?:py|yaml|toml))`\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)

GRADIENT = "test_every_trained_parameter_gets_a_gradient"
LOSSES = "test_losses_are_named"
BLOCKS = "test_the_held_out_item_of_a_block_world_ranks_first"
BATCH = "test_the_batch_is_not_modified"
FULL_SORT = "test_full_sort_predict_equals_predict"
PAD = "test_pad_is_never_recommended"
RELABELLED = "test_relabelling_items_only_relabels_scores"
SEED = "test_the_same_seed_gives_the_same_numbers_and_another_seed_others"
SAVED = "test_saved_and_loaded_gives_equal_scores"
RESUMED = "test_an_interrupted_run_resumed_equals_the_uninterrupted_one"
YAML = "test_yaml_keys_equal_the_typed_fields"
MEANING = "test_every_hyperparameter_says_what_it_means"
PAPER = "test_the_paper_is_cited"


def finite(missing: str) -> str:
    return f"test_any_pattern_of_missing_modalities_gives_finite_numbers[{missing}]"


FAULTY = '''
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mypackage.factors import Factors, FactorsParameters
from recbole_margo.model.parameters import hyperparameter


class UnusedParameter(Factors):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.unused = nn.Parameter(torch.zeros(3))


class LossIsARow(Factors):
    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction).view(1)


class LearnsTheOpposite(Factors):
    def calculate_loss(self, interaction):
        return -super().calculate_loss(interaction)


class ChangesTheBatch(Factors):
    def calculate_loss(self, interaction):
        loss = super().calculate_loss(interaction)
        interaction.interaction["weight"] = torch.ones(len(interaction))
        return loss


class TwoKindsOfScores(Factors):
    def full_sort_predict(self, interaction):
        return super().full_sort_predict(interaction) + 1


class ScoresNothingForSome(Factors):
    def predict(self, interaction):
        scores = super().predict(interaction)
        return scores.masked_fill(interaction[self.USER_ID] % 2 == 0, -torch.inf)

    def full_sort_predict(self, interaction):
        scores = super().full_sort_predict(interaction).view(-1, self.n_items)
        none = interaction[self.USER_ID] % 2 == 0
        return scores.masked_fill(none[:, None], -torch.inf).view(-1)


class ReadsIds(Factors):
    def scoring_tables(self):
        users, items = super().scoring_tables()
        bias = 0.01 * torch.arange(self.n_items)[:, None]
        return torch.cat([users, torch.ones(self.n_users, 1)], 1), torch.cat([items, bias], 1)


class DividesByModalities(Factors):
    def scoring_tables(self):
        users, items = super().scoring_tables()
        present = self.modality_mask.sum(dim=1, keepdim=True)
        present[0] = 1
        return users, items / present


class DrawsWithoutSeed(Factors):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        drawn = np.random.default_rng().normal(size=self.factors.weight.shape)
        self.factors.weight.data = 0.1 * torch.tensor(drawn, dtype=torch.float32)


class ForgetsItsState(Factors):
    steps = 0

    def scoring_tables(self):
        users, items = super().scoring_tables()
        return users * (1 + 0.01 * self.steps), items

    def calculate_loss(self, interaction):
        self.steps += 1
        return super().calculate_loss(interaction)


class Misspelt(Factors):
    pass


@dataclass(frozen=True, kw_only=True)
class UnexplainedParameters(FactorsParameters):
    width: int = hyperparameter("width", default=3)


class Unexplained(Factors):
    parameters_class = UnexplainedParameters


@dataclass(frozen=True, kw_only=True)
class OutOfBoundsParameters(FactorsParameters):
    width: int = hyperparameter("width of nothing", default=3, low=2, search=[1, 2, 3])


class OutOfBounds(Factors):
    parameters_class = OutOfBoundsParameters


MODELS = Factors.__subclasses__()
for model in MODELS:
    model.__doc__ = Factors.__doc__


class Unwritten(Factors):
    """Nothing."""


MODELS.append(Unwritten)
'''
FAILED = {
    "UnusedParameter": {GRADIENT},
    "LossIsARow": {LOSSES},
    "LearnsTheOpposite": {BLOCKS},
    "ChangesTheBatch": {BATCH},
    "TwoKindsOfScores": {FULL_SORT},
    "ScoresNothingForSome": {PAD, BLOCKS, *map(finite, MISSING)},
    "ReadsIds": {RELABELLED},
    "DividesByModalities": {finite("an item misses all")},
    "DrawsWithoutSeed": {SEED, RESUMED},
    "ForgetsItsState": {SAVED, RESUMED},
    "Misspelt": {YAML},
    "Unexplained": {MEANING},
    "OutOfBounds": {MEANING},
    "Unwritten": {PAPER},
}
TEST_FAULTY = """
import mypackage.faulty
from recbole_margo.testing import ModelContract

for model in mypackage.faulty.MODELS:
    name = f"Test{model.__name__}"
    globals()[name] = type(name, (ModelContract,), {"model": model})
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the package of the documentation, and its faulty sisters."""
    folder = tmp_path_factory.mktemp("external")
    for name, text in BLOCK.findall((ROOT / "docs" / "testing.md").read_text(encoding="utf-8")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "mypackage" / "faulty.py").write_text(FAULTY, encoding="utf-8")
    (folder / "mypackage" / "Misspelt.yaml").write_text("penalty_wieght: 0.001\n")
    (folder / "test_faulty.py").write_text(TEST_FAULTY, encoding="utf-8")
    return folder


def run_tests(package: Path, file: str, status: int) -> ElementTree.Element:
    """Run pytest on a file of the package, as its author would; returns its JUnit record."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--junit-xml=record.xml", file],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return ElementTree.parse(package / "record.xml").getroot()  # noqa: S314  our own file


def failures(record: ElementTree.Element) -> dict[str, dict[str, str]]:
    """Return class -> test -> message, of what failed."""
    found: dict[str, dict[str, str]] = {}
    for case in record.iter("testcase"):
        of_class = found.setdefault(case.get("classname", "").rpartition(".Test")[2], {})
        failure = case.find("failure")
        if failure is not None:
            of_class[case.get("name", "")] = failure.get("message", "")
        assert case.find("error") is None
    return found


def test_the_documented_package_keeps_the_contract(package: Path) -> None:
    record = run_tests(package, "test_factors.py", status=0)
    collected = [case.get("name", "").partition("[")[0] for case in record.iter("testcase")]
    contract = {name for name in dir(ModelContract) if name.startswith("test_")}
    assert len(contract) == 16
    assert set(collected) == contract
    assert len(collected) == len(contract) - 1 + len(MISSING)


def test_the_values_are_in_the_built_package(package: Path, tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    words = ["-c", "import setuptools; setuptools.setup()", "-q", "build_py", "--build-lib"]
    subprocess.run([sys.executable, *words, str(tmp_path)], cwd=package, check=True)
    assert (tmp_path / "mypackage" / "Factors.yaml").is_file()


@pytest.mark.slow
def test_every_fault_fails_the_test_that_is_there_for_it(package: Path) -> None:
    found = failures(run_tests(package, "test_faulty.py", status=1))
    assert {name: set(failed) for name, failed in found.items()} == FAILED
    # Asserts are rewritten as in a test file.
    assert "'Source:' in 'Nothing.'" in found["Unwritten"][PAPER]


def test_every_public_name_is_there() -> None:
    for name in recbole_margo.testing.__all__:
        assert getattr(recbole_margo.testing, name) is not None
    assert set(recbole_margo.testing.__all__) <= set(dir(recbole_margo.testing))
    with pytest.raises(AttributeError, match="no attribute 'Contract'"):
        _ = recbole_margo.testing.Contract


def test_pytest_is_needed_by_the_contract_alone(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from pathlib import Path\n"
        "import recbole_margo.testing as testing\n"
        "root = testing.random_world().write(Path('data'))\n"
        "print(testing.prepare(root, 'VBPR').all_scores().shape)\n"
        "try: testing.ModelContract\n"
        "except ImportError as error: print(error.name)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines()[-2:] == ["(21, 16)", "pytest"]
