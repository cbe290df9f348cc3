"""The sources of the documentation: prose is wrapped, so that a diff shows the changed sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
WIDTH = 100
# Tables, headings, HTML, pictures and link definitions cannot be wrapped; indented blocks are code.
WHOLE = re.compile(r"^\s*(\||#|<|!\[|\[[^\]]+\]: )|^ {4}")
START = re.compile(r"^\s*([-*]|\d+\.)?\s*")


def could_be_wrapped(line: str) -> bool:
    """Whether a line is longer than WIDTH and has a space before it to break at.

    Code spans are not broken.
    """
    glued = re.sub(r"`[^`]+`", lambda span: span[0].replace(" ", "_"), line)
    start = START.match(glued)
    return len(line) > WIDTH and " " in glued[start.end() if start else 0 : WIDTH + 1]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_prose_is_wrapped(source: Path) -> None:
    fenced = False
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not WHOLE.match(line):
            assert not could_be_wrapped(line), f"{source.name}, line {number}: {line}"


def test_a_long_line_is_found() -> None:
    assert could_be_wrapped("- " + "word " * 21)
    assert not could_be_wrapped("- `" + "word " * 21 + "`")
