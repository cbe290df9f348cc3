"""Every command and every program that the documentation shows.

A command's verb, options and keys exist; what ends within seconds is run. Programs are compiled and
their imports resolve; the tutorials are run whole.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from recbole_margo.cli import main
from recbole_margo.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.py"))
# Verbs whose further options are the keys of a training.
TRAINING = {"train", "compare", "ablate", "sweep", "tune", "robustness"}
PROGRAMS = {
    "recbole-margo": [],
    "python -m dataset_converters": ["convert"],
    "python run_recbole_margo.py": ["train"],
}
COMMAND = re.compile(
    r"^(?: {4}|\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?("
    + "|".join(re.escape(program) for program in PROGRAMS)
    + r") ((?:.*\\\n)*.*)$",
    re.MULTILINE,
)
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICK = ["models", "models FREEDOM", "convert --help", "doctor"]


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        # Inline code may be cut off by its sentence; blocks are whole.
        for match in COMMAND.finditer(page.read_text(encoding="utf-8")):
            words = [*PROGRAMS[match[1]], match[2].replace("\\\n", " ")]
            yield page.relative_to(ROOT).as_posix(), " ".join(words)


@cache
def help_of(*verb: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*verb, "--help"])
    return text.getvalue()


@cache
def keys() -> set[str]:
    from recbole_margo.config import known_keys
    from recbole_margo.registry import find_model, multimodal_models

    config = yaml.safe_load((ROOT / "properties" / "overall.yaml").read_text(encoding="utf-8"))
    models = [entry.load() for entry in multimodal_models().values()]
    found = set(config)
    for model in [*models, find_model("BPR"), find_model("LightGCN")]:
        found |= known_keys(model, {})
    return found


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_a_command_of_the_documentation_exists(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    verb = words[0]
    assert verb in {*VERBS, "train", "models"} or verb.startswith("-"), verb
    converter = [words[1]] if verb == "convert" and words[1:] and words[1][0] != "-" else []
    shown = help_of(verb, *converter)
    options = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    for option in options:
        known = re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown)
        assert known or (verb in TRAINING and option[2:].partition(".")[0] in keys()), option


@pytest.mark.parametrize("command", QUICK)
def test_a_quick_command_of_the_documentation_runs(command: str) -> None:
    program = "import sys; from recbole_margo.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def programs() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, match in enumerate(FENCED.finditer(page.read_text(encoding="utf-8"))):
            yield f"{page.relative_to(ROOT).as_posix()}:{number}", match[1]


@pytest.mark.parametrize(("where", "source"), [pytest.param(*one, id=one[0]) for one in programs()])
def test_what_a_program_of_the_documentation_imports_exists(where: str, source: str) -> None:
    tree = ast.parse(source, where)
    # Written by the page itself, or a client of the reader's own database.
    of_the_page = ("mypackage", "psycopg")
    wanted = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and node.names[0].name not in of_the_page)
        or (isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] not in of_the_page)
    ]
    for line in wanted:
        try:
            exec(line, {})  # noqa: S102
        except ModuleNotFoundError as error:
            if error.name != "pyarrow":
                raise
            pytest.skip("needs pyarrow, which comes with an extra")


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(tutorial: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(tutorial)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
