"""What other systems do not have, taken away here."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from recbole_margo import resources

ROOT = Path(__file__).resolve().parents[1]
# Modules that Windows does not have.
POSIX = {"fcntl", "grp", "pwd", "resource", "termios"}


SOURCES = [
    path
    for room in ("recbole_margo", "dataset_converters")
    for path in ROOT.glob(f"{room}/**/*.py")
]


def test_no_import_of_the_package_needs_posix() -> None:
    """Within a function a module may be imported, after a look whether the system has it."""
    assert len(SOURCES) > 100
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if (isinstance(node, ast.Import) and {name.name for name in node.names} & POSIX)
        or (isinstance(node, ast.ImportFrom) and node.module in POSIX)
    ]
    assert found == []


@pytest.mark.parametrize(("peak", "expected"), [({"peak_wset": 12345}, 12345), ({}, None)])
def test_peak_memory_without_proc(
    peak: dict[str, int], expected: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By Windows' own number, else by the largest size since the start."""
    resident = psutil.Process().memory_info().rss
    monkeypatch.setattr(resources, "STATUS", tmp_path / "absent")
    monkeypatch.setattr(
        psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=resident, **peak)
    )
    found = resources.peak_memory()["host"]
    assert found == expected if expected else resident / 4 < found < 64 * resident
