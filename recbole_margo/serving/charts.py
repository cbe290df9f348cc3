"""An explanation as a bar chart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from recbole_margo.errors import ConfigError
from recbole_margo.report.figures import COLORS, STYLE, new_figure, wrapped
from recbole_margo.serving.explanation import Explanation, Reason
from recbole_margo.store.writing import disk_errors, replacing

REASONS = 8
FORMATS = (".png", ".svg")


def check_chart(path: Path) -> None:
    """Raise a `ConfigError` unless the suffix of a path is one of `FORMATS`."""
    if path.suffix not in FORMATS:
        raise ConfigError(
            f"--output: expected a file whose name ends with {' or '.join(FORMATS)}, found {path}"
        )


def write_chart(path: Path, explanations: Sequence[Explanation]) -> None:
    """Draw the parts of scores as bars and write them, whole or not at all.

    Args:
        path: a `.png` or `.svg` file.
        explanations: at least one; of each its contributions and its largest reasons.

    Raises:
        ConfigError: the name of the file ends otherwise.
    """
    check_chart(path)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the text has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = _chart(explanations)
        with disk_errors(path), replacing(path) as temporary:
            figure.savefig(temporary, dpi=150, format=path.suffix[1:])


def _chart(explanations: Sequence[Explanation]) -> Figure:
    bars = [_bars(one) for one in explanations]
    figure = new_figure(0.9 + sum(0.6 + 0.26 * len(of_one) for of_one in bars))
    heights = [1.5 + len(of_one) for of_one in bars]
    panels = figure.subplots(len(bars), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, one, of_one in zip(panels, explanations, bars, strict=True):
        names, values, colors = zip(*of_one, strict=True)
        places = range(len(names))
        panel.barh(places, values, color=colors)
        panel.set_yticks(places, names)
        panel.invert_yaxis()
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_xlabel("part of the score")
        what = one.title or one.item
        panel.set_title(wrapped(f"{what} for {one.user}: {one.score:.3f}", 90, 2), loc="left")
    return figure


def _bars(one: Explanation) -> list[tuple[str, float, str]]:
    """Return label, value and colour of each bar: contributions, then reasons."""
    parts = [
        (f"{part.name}{' (doubtful)' * part.doubtful}", part.value, COLORS[0])
        for part in one.contributions
    ]
    reasons = [
        (wrapped(_shortened(reason).words(), 60, 2), reason.value, COLORS[1])
        for reason in one.reasons[:REASONS]
    ]
    return parts + reasons


def _shortened(reason: Reason) -> Reason:
    return replace(reason, title=wrapped(reason.title, 28, 1), item=wrapped(reason.item, 16, 1))
