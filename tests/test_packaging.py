"""The project as a wheel, used far from the checkout."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

import recbole_margo

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--quiet")
PACKAGES = ("recbole_margo", "dataset_converters")


@pytest.fixture(scope="module")
def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, because a build leaves files beside its sources and takes up old ones."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache")
    for name in (*PACKAGES, "properties"):
        shutil.copytree(ROOT / name, sources / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources / name)
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(sources)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(folder), str(wheel)], check=True)
    return folder


def run_installed(installed: Path, cwd: Path, *arguments: str) -> str:
    """Run Python with the installed wheel as the only place that has our packages."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def listed(settings: configparser.ConfigParser, section: str, key: str) -> list[str]:
    lines = (line.strip() for line in settings[section][key].splitlines())
    return [line for line in lines if line and not line.startswith(("#", "%"))]


def project_name(requirement: str) -> str:
    return re.split(r"[ =<>!~;\[]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_every_package_of_the_checkout_is_listed(settings: configparser.ConfigParser) -> None:
    found = {
        str(path.parent.relative_to(ROOT)).replace(os.sep, ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(listed(settings, "options", "packages")) == found | {"recbole_margo.properties"}


def test_the_wheel_holds_all_files_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.jinja", "py.typed")
        for path in (ROOT / package).rglob(pattern)
    }
    expected |= {
        f"recbole_margo/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "properties").rglob("*.yaml")
    }
    assert names == expected


def test_the_shipped_values_are_found_in_an_installed_wheel(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import recbole_margo, recbole_margo.defaults as defaults\n"
        "print(recbole_margo.__file__)\n"
        "print(defaults.shipped_values('model/MARGO.yaml')['embedding_size'])\n"
        "print(defaults.shipped_values('dataset/ml-100k.yaml')['modalities'])\n"
    )
    place, embedding_size, modalities = run_installed(installed, tmp_path, "-c", code).splitlines()
    assert Path(place).parent.parent == installed
    assert int(embedding_size) > 0
    assert "text" in modalities


def test_the_console_script_is_declared(installed: Path) -> None:
    (folder,) = installed.glob("recbole_margo-*.dist-info")
    scripts = PathDistribution(folder).entry_points.select(group="console_scripts")
    assert [(script.name, script.value) for script in scripts] == [
        ("recbole-margo", "recbole_margo.cli:main")
    ]
    assert (installed / "bin" / "recbole-margo").is_file()


def test_the_command_runs_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    script = str(installed / "bin" / "recbole-margo")
    assert "MARGO" in run_installed(installed, tmp_path, script, "models")
    output = run_installed(installed, tmp_path, "-m", "dataset_converters", "--help")
    assert "mmrec" in output


def test_every_dependency_has_a_tested_version(settings: configparser.ConfigParser) -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {project_name(line) for line in pins if line and not line.startswith("#")}
    wanted = [
        *listed(settings, "options", "install_requires"),
        *listed(settings, "options.extras_require", "test"),
        *listed(settings, "options.extras_require", "check"),
    ]
    # RecBole is installed by itself, because its own requirements cannot be met everywhere.
    assert {project_name(line) for line in wanted} - {"recbole"} <= pinned
    assert not pinned & {"ray", "thop"}


def test_one_version_stands_everywhere() -> None:
    """The package, its citation and the newest section of the changelog name the same version."""
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    changes = re.search(
        r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert cited is not None and changes is not None
    assert cited[1] == changes[1] == recbole_margo.__version__
