"""What a sweep shows, on made-up numbers."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import matplotlib
import pytest

from recbole_margo.report import html_page, markdown_page, terminal_text
from recbole_margo.report.figures import STYLE
from recbole_margo.store.plain import as_plain, from_plain
from recbole_margo.studies.sweep.report import panel_metrics, sweep_figure, sweep_report
from recbole_margo.studies.sweep.result import Sweep, mean_and_deviation

METRICS = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]


def point(value: Any, valid: list[float], own: bool = False, **errors: str) -> dict[str, Any]:
    return {
        "value": value,
        "text": str(value),
        "label": "MARGO" if own else f"alpha={value}",
        "own": own,
        "seeds": [1, 2][: len(valid)],
        "valid": valid,
        "test": {metric: [score + 0.1 for score in valid] for metric in METRICS},
        "errors": errors,
    }


@pytest.fixture
def swept() -> dict[str, Any]:
    alpha = [
        point(0.01, [0.10, 0.12]),
        point(1.0, [0.20, 0.20], own=True),
        point(10.0, [], **{"1": "TrainingError: <nan>", "2": "TrainingError: <nan>"}),
    ]
    backbone = [point("DRAGON", [0.20, 0.20], own=True), point("LightGCN", [0.3, 0.1])]
    return {
        "model": "MARGO",
        "dataset": "made-up",
        "eval_protocol": "recbole",
        "split": "abc",
        "seeds": [1, 2],
        "valid_metric": "Recall@20",
        "settings": {"topk": [10, 20]},
        "metrics": METRICS,
        "absent_parts": [],
        "hyperparameters": [
            {"name": "alpha", "meaning": "weight of a loss", "scale": "log", "points": alpha},
            {"name": "backbone", "meaning": None, "scale": "ordinal", "points": backbone},
        ],
    }


def read(swept: dict[str, Any]) -> Sweep:
    return from_plain(Sweep, swept)


def test_mean_and_sample_deviation():
    assert mean_and_deviation([]) == (None, None)
    assert mean_and_deviation([0.5]) == (0.5, None)
    mean, deviation = mean_and_deviation([1.0, 2.0, 3.0, 6.0])
    assert mean == 3.0
    assert deviation == pytest.approx(math.sqrt(14 / 3), abs=1e-15)


def test_the_best_on_validation_is_bold_and_nothing_on_test(swept):
    alpha = sweep_report(read(swept)).shown[0].parts[0]
    assert alpha.headers[:2] == ("alpha", "validation Recall@20")
    assert [row[0].text for row in alpha.rows] == ["0.01", "1.0 (own)", "10.0"]
    assert alpha.rows[0][1].text == "0.1100 ± 0.0141"
    assert [row[1].best for row in alpha.rows] == [False, True, False]
    assert not any(cell.best for row in alpha.rows for cell in row[2:])
    assert [row[-1].text for row in alpha.rows] == ["2 of 2", "2 of 2", "0 of 2"]


def test_the_smallest_is_best_where_smaller_is_better(swept):
    swept["valid_metric"] = "AveragePopularity@20"
    assert [row[1].best for row in sweep_report(read(swept)).shown[0].parts[0].rows] == [
        True,
        False,
        False,
    ]


def test_the_columns_of_panels_are_the_metric_of_selection_and_one_more(swept):
    assert panel_metrics(read(swept)) == [
        ("valid", "recall@20"),
        ("test", "recall@20"),
        ("test", "ndcg@20"),
    ]
    assert panel_metrics(read({**swept, "metrics": ["recall@20"]}))[1:] == [("test", "recall@20")]
    assert panel_metrics(read({**swept, "valid_metric": "MRR@5"}))[1:] == [("test", "recall@10")]


def test_the_figure_draws_what_finished(swept):
    with matplotlib.rc_context(STYLE):
        figure = sweep_figure(read(swept))
    assert figure is not None
    assert len(figure.axes) == 6
    first = figure.axes[0]
    line = first.lines[0]
    assert list(line.get_xdata()) == [0.01, 1.0]
    assert list(line.get_ydata()) == pytest.approx([0.11, 0.20])
    assert first.get_xscale() == "log"
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0.01", "1.0", "10.0"]
    band = first.collections[0]
    low = band.get_paths()[0].vertices[:, 1].min()
    assert low == pytest.approx(0.11 - math.sqrt(2) * 0.01)
    names = [tick.get_text() for tick in figure.axes[3].get_xticklabels()]
    assert names == ["DRAGON", "LightGCN"]


def test_one_seed_has_no_band_and_says_so(swept):
    swept["seeds"] = [1]
    for curve in swept["hyperparameters"]:
        for each in curve["points"]:
            each["seeds"], each["valid"] = each["seeds"][:1], each["valid"][:1]
            each["test"] = {metric: values[:1] for metric, values in each["test"].items()}
    figure = sweep_figure(read(swept))
    assert figure is not None
    assert not figure.axes[0].collections
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "one seed, no band"
    assert "One seed (1), so there is no deviation over seeds." in terminal_text(
        sweep_report(read(swept)).shown
    )


def test_nothing_is_drawn_of_nothing(swept, tmp_path):
    for curve in swept["hyperparameters"]:
        for each in curve["points"]:
            each["seeds"], each["valid"] = [], []
            each["test"] = {metric: [] for metric in METRICS}
    files = {path.name for path in sweep_report(read(swept)).write(tmp_path)}
    assert files == {"sweep.json", "sweep.csv", "sweep.md", "sweep.html"}


def test_the_rows_of_the_table_of_numbers_are_unrounded(swept):
    swept["hyperparameters"][0]["points"][0]["valid"][1] = 1 / 3
    rows = list(csv.DictReader(io.StringIO(sweep_report(read(swept)).texts["sweep.csv"])))
    (row,) = [
        row
        for row in rows
        if row["value"] == "0.01" and row["seed"] == "2" and row["on"] == "valid"
    ]
    assert float(row["number"]) == 1 / 3
    assert row["metric"] == "recall@20" and row["own"] == "false"


def test_failures_are_named_and_escaped(swept):
    assert "alpha=10.0 failed, seed 2: TrainingError: <nan>" in terminal_text(
        sweep_report(read(swept)).shown
    )
    document = sweep_report(read(swept)).document
    assert "&lt;nan&gt;" in markdown_page(document)
    page = html_page(document)
    assert "&lt;nan&gt;" in page and "<nan>" not in page


def test_the_files_hold_the_numbers_worked_out_by_hand(tmp_path):
    first = {
        **point(0.5, [0.25, 0.75]),
        "test": {"ndcg@5": [0.5, None], "=recall@5": [0.125, 1 / 3]},
    }
    plain = {
        "model": "MARGO",
        "dataset": "d",
        "eval_protocol": "recbole",
        "split": "abc",
        "seeds": [1, 2],
        "valid_metric": "NDCG@5",
        "settings": {"x": 1},
        "metrics": ["ndcg@5"],
        "absent_parts": [],
        "hyperparameters": [{"name": "tau", "meaning": None, "scale": "linear", "points": [first]}],
    }
    swept = read(plain)
    assert as_plain(swept) == plain
    sweep_report(swept).write(tmp_path)
    assert (tmp_path / "sweep.csv").read_text() == (
        "hyperparameter,value,own,seed,on,metric,number\n"
        "tau,0.5,false,1,valid,ndcg@5,0.25\n"
        "tau,0.5,false,2,valid,ndcg@5,0.75\n"
        "tau,0.5,false,1,test,ndcg@5,0.5\n"
        "tau,0.5,false,1,test,'=recall@5,0.125\n"
        "tau,0.5,false,2,test,'=recall@5,0.3333333333333333\n"
    )
    assert (tmp_path / "sweep.json").read_text() == json.dumps(plain, indent=2) + "\n"
    # 0.25 and 0.75: mean 0.5, deviation 0.5 / sqrt(2).
    assert "| 0.5   | **0.5000 ± 0.3536**" in (tmp_path / "sweep.md").read_text()
    assert "<td><b>0.5000 ± 0.3536</b></td>" in (tmp_path / "sweep.html").read_text()
