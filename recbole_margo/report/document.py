"""A report as data: a title, facts, and sections of tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from matplotlib import figure as matplotlib_figure

from recbole_margo.report.table import Table


@dataclass(frozen=True)
class Figure:
    """A figure, drawn when the document is written.

    Attributes:
        name: of its files, without ending.
        alternative: what it shows, for those who do not see it.
        drawing: makes it; None if there is nothing to draw, and then the figure is left out.
    """

    name: str
    alternative: str
    drawing: Callable[[], matplotlib_figure.Figure | None]
    caption: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paragraphs:
    """Sentences, each a paragraph in small print."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Fold:
    """Parts that a page shows when its reader opens them; a terminal leaves them out."""

    title: str
    parts: tuple[Part, ...]


Part: TypeAlias = "Table | Figure | Paragraphs | Bullets | Fold"


@dataclass(frozen=True)
class Section:
    """Parts that belong together; one without parts is not shown.

    Attributes:
        title: its heading; None: its first part brings its own.
    """

    title: str | None
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        facts: names and values of the conditions, shown below the title.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]

    def figures(self) -> list[Figure]:
        """Return all figures, those in folds too."""
        return list(_figures(part for section in self.sections for part in section.parts))


def _figures(parts: Iterable[Part]) -> Iterator[Figure]:
    for part in parts:
        if isinstance(part, Figure):
            yield part
        elif isinstance(part, Fold):
            yield from _figures(part.parts)


def failure_section(lines: Iterable[str]) -> tuple[Section, ...]:
    """Return the section that tells what failed, or nothing."""
    told = tuple(lines)
    return (Section("What failed", (Bullets(told),)),) if told else ()


def shown_sections(document: Document, drawn: Iterable[str]) -> list[Section]:
    """Return the sections without figures that were not drawn, and without empty sections.

    Args:
        drawn: names of the figures that exist.
    """
    names = set(drawn)

    def kept(parts: Iterable[Part]) -> Iterator[Part]:
        for part in parts:
            if isinstance(part, Fold):
                inside = tuple(kept(part.parts))
                if inside:
                    yield Fold(part.title, inside)
            elif not isinstance(part, Figure) or part.name in names:
                yield part

    sections = [Section(one.title, tuple(kept(one.parts))) for one in document.sections]
    return [section for section in sections if section.parts]
