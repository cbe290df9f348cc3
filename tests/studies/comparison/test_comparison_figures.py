"""The figures of a comparison show what the summary says."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from made_up_comparison import compared, made_up_model, made_up_summary, made_up_test
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from recbole_margo.report.figures import STYLE
from recbole_margo.studies.comparison.figures import (
    differences_figure,
    metrics_figure,
    slices_figure,
)
from recbole_margo.studies.comparison.report import comparison_report

MODELS = [f"Model{number}" for number in range(13)]


def panels_of(figure: Figure | None) -> list[Axes]:
    assert figure is not None
    return [panel for panel in figure.axes if panel.get_visible()]


def points(panel: Axes, marker: str) -> list[list[float]]:
    """Return where the lines of a marker have their points, without those of the legend."""
    return [
        np.asarray(line.get_xdata(), dtype=float).tolist()
        for line in panel.lines
        if line.get_marker() == marker and len(line.get_xdata())
    ]


def test_every_metric_has_a_panel_with_seeds_mean_and_deviation() -> None:
    summary = made_up_summary()
    panels = panels_of(metrics_figure(compared(summary)))
    assert [panel.get_xlabel() for panel in panels] == [
        f"{metric} on test" for metric in ("Recall@10", "Recall@20", "NDCG@10", "NDCG@20")
    ]
    first, second, _ = summary["models"]
    panel = panels[1]
    assert points(panel, "D") == [[first["mean"]["recall@20"]]]
    seeds = [line for line in points(panel, "o") if len(line) == 3]
    assert seeds == [entry["values"]["recall@20"] for entry in summary["models"]]
    bars = [bar.lines[2][0].get_segments()[0][:, 0] for bar in panel.containers]
    mean, deviation = second["mean"]["recall@20"], second["std"]["recall@20"]
    np.testing.assert_allclose(bars[1], [mean - deviation, mean + deviation], rtol=1e-12)


def test_models_without_results_have_no_row() -> None:
    summary = made_up_summary(["A", "B"])
    summary["models"][1] = made_up_model("B", {}, errors={"1": "x", "2": "x", "3": "x"})
    panel = panels_of(metrics_figure(compared(summary)))[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["A"]


def test_smaller_is_better_is_said() -> None:
    panels = panels_of(
        metrics_figure(compared(made_up_summary(metrics=["recall@20", "giniindex"])))
    )
    assert [panel.get_xlabel() for panel in panels] == [
        "Recall@20 on test",
        "GiniIndex on test (smaller is better)",
    ]


def test_differences_are_those_of_the_metric_of_selection_and_filled_if_significant() -> None:
    summary = made_up_summary()
    summary["tests"]["recall@20"] = [
        made_up_test("DRAGON", -0.01, 0.2),
        made_up_test("LightGCN", 0.02, 0.001),
    ]
    (panel,) = panels_of(differences_figure(compared(summary)))
    drawn = [line for line in panel.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [float(line.get_xdata()[0]) for line in drawn] == [-0.01, 0.02]
    faces = [to_hex(line.get_markerfacecolor()) for line in drawn]
    assert faces == ["#ffffff", "#0072b2"]
    intervals = [[-0.0161, -0.0041], [0.0139, 0.0259]]
    np.testing.assert_allclose(points(panel, "|"), intervals, rtol=1e-12)
    assert any(np.array_equal(line.get_xdata(), [0, 0]) for line in panel.lines)
    assert "Recall@20 of the model minus MARGO's" in panel.get_xlabel()
    assert "1,858 users" in panel.get_xlabel()


def test_without_tests_or_slices_or_results_there_is_no_figure() -> None:
    assert differences_figure(compared(made_up_summary(tests={}))) is None
    assert slices_figure(compared(made_up_summary(slices=[]))) is None
    failed = [made_up_model("A", {}, errors={"1": "x"})]
    assert metrics_figure(compared(made_up_summary("A", [1], models=failed))) is None


def test_every_slice_has_every_model_in_a_look_of_its_own() -> None:
    summary = made_up_summary(MODELS)
    panels = panels_of(slices_figure(compared(summary)))
    assert [panel.get_title() for panel in panels] == [
        *("user activity", "item popularity", "missing modality")
    ]
    lines = [line for line in panels[2].lines if line.get_linestyle() == "None"]
    assert len({line.get_marker() for line in lines}) == len(MODELS)
    values = [part["values"] for part in summary["slices"][6:]]
    for name, line in zip(MODELS, lines, strict=True):
        assert np.asarray(line.get_xdata()).tolist() == [of[name] for of in values]
    # The groups do not reach into each other.
    heights = np.asarray([line.get_ydata() for line in lines], dtype=float)
    assert (np.abs(heights - np.round(heights)) < 0.4).all()


def test_a_slice_that_a_model_has_no_value_for_is_left_open() -> None:
    summary = made_up_summary(["A", "B"])
    del summary["slices"][0]["values"]["B"]
    lines = panels_of(slices_figure(compared(summary)))[0].lines
    assert np.isnan(lines[1].get_xdata()[0])
    assert np.isfinite(lines[0].get_xdata()).all()


@pytest.mark.parametrize("panel_of", [metrics_figure, differences_figure])
def test_long_labels_stay_apart(panel_of: Any) -> None:
    common = "MARGO with a very long setting = 0.001 and another = "
    panels = panels_of(panel_of(compared(made_up_summary(["A", f"{common}1", f"{common}2"]))))
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert len(set(labels)) == len(labels)
    assert all(len(line) <= 24 for label in labels for line in label.split("\n"))


def test_no_axis_shows_metrics_below_zero() -> None:
    summary = made_up_summary(["A", "B"])
    for part in summary["slices"][:3]:
        part["values"] = {"A": 0.0, "B": 0.0}
    panel = panels_of(slices_figure(compared(summary)))[0]
    low, high = panel.get_xlim()
    assert low < 0 < high
    assert [tick for tick in panel.get_xticks() if low <= tick < 0] == []


def overlapping(figure: Figure, panel: Axes) -> list[tuple[str, str]]:
    """Return neighbouring tick labels whose boxes overlap."""
    figure.canvas.draw()
    pairs = []
    for axis in (panel.xaxis, panel.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        labels = [tick.label1 for tick in ticks if tick.label1.get_visible()]
        for one, other in pairwise(labels):
            if one.get_window_extent().overlaps(other.get_window_extent()):
                pairs.append((one.get_text(), other.get_text()))
    return pairs


@pytest.mark.parametrize("count", [1, 2, 13])
@pytest.mark.parametrize("draw", [metrics_figure, differences_figure, slices_figure])
def test_nothing_overlaps(draw: Any, count: int) -> None:
    with matplotlib.rc_context(STYLE):
        figure = draw(compared(made_up_summary(MODELS[:count])))
        if figure is None:
            assert (draw, count) == (differences_figure, 1)
            return
        for panel in panels_of(figure):
            assert overlapping(figure, panel) == []
        boxes = [panel.get_tightbbox() for panel in panels_of(figure)]
        for place, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[place + 1 :])
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1


def test_files_are_whole_the_same_every_time_and_labels_are_not_mathematics(
    tmp_path: Path,
) -> None:
    summary = made_up_summary(["$\\frac{", "B & <b>", "日本 🙂\x00"])
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        comparison_report(compared(summary)).write(folder)
    names = ("differences", "metrics", "slices")
    files = sorted(path.name for path in (tmp_path / "one").iterdir() if path.stem in names)
    assert files == [f"{name}.{ending}" for name in names for ending in ("png", "svg")]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        if name.endswith("png"):
            assert image.imread(tmp_path / "one" / name).std() > 0.01
        else:
            # matplotlib writes each text as a comment beside its glyphs.
            text = (tmp_path / "one" / name).read_text(encoding="utf-8")
            assert "$\\frac{" in text
            ElementTree.fromstring(re.sub("<!DOCTYPE.*?>", "", text, flags=re.S))  # noqa: S314
