"""The package without RecBole, as pip leaves it on Python >= 3.12."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_RECBOLE = """
import importlib.machinery as machinery, sys
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name == "recbole" else find(name, *rest)
)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_RECBOLE + program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["train", "models"])
def test_a_verb_that_needs_recbole_names_the_command_that_installs_it(verb: str) -> None:
    program = f"from recbole_margo.cli import main; sys.argv = ['x', {verb!r}]; sys.exit(main())"
    done = run(program)
    assert done.returncode == 2
    assert "pip install --no-deps recbole==1.2.1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_needs_no_recbole_works_without_it() -> None:
    program = (
        "import recbole_margo, dataset_converters, recbole_margo.store.feature_files;"
        "from recbole_margo import Recommender; print(Recommender.__name__)"
    )
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Recommender\n"


def test_the_error_is_an_import_error_too() -> None:
    program = """
import recbole_margo
try:
    import recbole
except ImportError as error:
    print(type(error).__name__)
"""
    assert run(program).stdout == "MissingRecBoleError\n"
