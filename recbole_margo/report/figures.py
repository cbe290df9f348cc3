"""How figures look and are written; readable in print and for the colour-blind."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_margo.report.document import clean
from recbole_margo.store.writing import replacing

# Okabe and Ito's palette, which keeps apart under every common colour blindness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++")
# Each model has a colour and a marker; with more models than colours the markers still differ.
MARKERS = "osD^vP*X<>phd8H"
WIDTH = 8.4
# Without a date the same numbers give the same file.
ENDINGS: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}
STYLE: dict[Any, Any] = {
    # A label is text, not mathematics, and the same numbers give the same file.
    "text.parse_math": False,
    "svg.hashsalt": "recbole-margo",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "font.size": 9,
    "grid.alpha": 0.3,
}


def new_figure(height: float) -> Figure:
    """Return an empty figure of the width of a page."""
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.06)
    return figure


def panel_grid(
    count: int, across: int, heights: float | Sequence[float], extra: float, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels row by row.

    Args:
        heights: inches of each row, or of all.
        extra: inches for the title and the legend.
        options: of `Figure.subplots`, such as `sharey`.
    """
    rows = math.ceil(count / across)
    inches = [heights] * rows if isinstance(heights, int | float) else list(heights)
    figure = new_figure(sum(inches) + extra)
    grid = figure.subplots(rows, min(across, count), squeeze=False, height_ratios=inches, **options)
    for panel in grid.flat[count:]:
        panel.set_visible(False)
    return figure, list(grid.flat[:count])


def name_rows(panel: Axes, labels: Sequence[str], **options: Any) -> None:
    """Name the rows of a panel, from the top; row n is at height n.

    Args:
        options: of the texts, such as `fontsize`.
    """
    panel.set_yticks(range(len(labels)), labels, **options)
    panel.set_ylim(len(labels) - 0.5, -0.5)


def few_ticks(axis: Axis) -> None:
    """Keep the numbers of an axis apart."""
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def legend_below(figure: Figure, columns: int, handles: Mapping[str, Artist] | None = None) -> None:
    """Put the legend of a figure below its panels.

    Args:
        handles: what is drawn, by label; default: every label of the figure's panels once.
    """
    if handles is None:
        handles = {}
        for panel in figure.axes:
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
    if handles:
        labels = [clean(label) for label in handles]
        figure.legend(
            list(handles.values()),
            labels,
            loc="outside lower center",
            ncols=min(columns, len(labels)),
        )


class Look(TypedDict):
    """The colour and marker of a model."""

    color: str
    marker: str


def look(index: int) -> Look:
    """Return the colour and marker of a model, which are the same in every figure.

    Args:
        index: of the model in its study.
    """
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def wrapped(text: object, width: int, lines: int = 99) -> str:
    """Return a text of others in short lines.

    Args:
        lines: the most lines; what is left out is marked.
    """
    return "\n".join(textwrap.wrap(clean(text), width, max_lines=lines, placeholder="…"))


def draw(path: Path, drawing: Callable[[], Figure | None]) -> bool:
    """Draw a figure in the style of all and write it as PNG and as SVG.

    Args:
        drawing: makes the figure; none if there is nothing to draw, and then files of an earlier
            one are removed.

    Returns:
        Whether there was something to draw.
    """
    # Texts take the style when they are made, ticks only when they are drawn.
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the tables have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = drawing()
        for ending in ENDINGS:
            # Not `with_suffix`: a name may hold a dot.
            file = path.with_name(f"{path.name}.{ending}")
            if figure is None:
                file.unlink(missing_ok=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            write_figure(file, figure, ending)
    return figure is not None


def write_figure(file: Path, figure: Figure, ending: str) -> None:
    """Write a figure as `png`, `svg` or `pdf`, whole or not at all."""
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=150, format=ending, metadata=ENDINGS.get(ending))


def drawings_of(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return what `draw` wrote as SVG, by name, for a page to hold."""
    return {name: (folder / f"{name}.svg").read_bytes() for name in names}


def figure_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the files that `draw` wrote, a PNG and an SVG for each name."""
    return [folder / f"{name}.{ending}" for name in names for ending in ENDINGS]
