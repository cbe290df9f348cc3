"""The audit's page, table and figures from made-up numbers."""

from __future__ import annotations

import csv
import io
import math
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from recbole_margo.report.figures import draw
from recbole_margo.report.weight_figures import WeightDistribution, weight_comparison_figure
from recbole_margo.studies.audit.figures import (
    EvidenceFigure,
    WeightRelation,
    binned_means,
    evidence_figure,
    relations_figure,
)
from recbole_margo.studies.audit.page import audit_page
from recbole_margo.studies.audit.report import audit_csv
from recbole_margo.studies.audit.tables import least_reliable_table, weights_table

EVIL = '<script>alert(1)</script>" onerror="x'


def row(item: str, **changes: Any) -> dict[str, Any]:
    return {
        "item": item,
        "title": "",
        "text": "",
        "pairs": 12,
        "weight": 0.25,
        "weight_std": math.nan,
        "reliability": 0.2,
        "low": 0.1,
        "high": 0.3,
        "contradicted": 0.4,
        "contradicted_low": 0.35,
        "contradicted_high": 0.45,
        "confidence": 0.5,
        "sure": True,
        **changes,
    }


def summary(least: list[dict[str, Any]]) -> dict[str, Any]:
    part = {
        "modality": "image",
        "present": 10,
        "ranked": 8,
        "average": 0.5,
        "contradicted": 0.2,
        "popularity_correlation": math.nan,
        "surely_below": 2,
        "surely_above": 1,
        "suspect": 1,
        "trusted": 0,
        "least": least,
        "most": [],
    }
    return {
        "dataset": "made <up>",
        "label": "MARGO",
        "seeds": [1],
        "modalities": ["image", "text"],
        "settings": {"negatives": 20, "resamples": 1000},
        "audit": {
            "items": 10,
            "pairs": 99,
            "ranked_by": "evidence",
            "min_pairs": 5,
            "modalities": [part],
        },
        "models": [],
        "relations": [],
        "stability": [],
    }


class Tags(HTMLParser):
    """Collects the tags of a page and the nesting of those that have to be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_others_wrote_is_text_on_the_page() -> None:
    page = audit_page(summary([row(EVIL, title=EVIL, text=EVIL)]), {}, {EVIL: "data:image/jpeg,x"})
    tags = Tags(page)
    assert tags.open == []
    names = [tag for tag, _ in tags.found]
    assert "script" not in names
    assert not any("onerror" in attributes for _, attributes in tags.found)
    (picture,) = [attributes for tag, attributes in tags.found if tag == "img"]
    assert picture["alt"] == EVIL


def test_pictures_have_a_column_only_if_there_are_any() -> None:
    rows = [row("i1", title="One"), row("i2", sure=False)]
    without = audit_page(summary(rows), {}, {})
    assert "picture" not in without
    assert "not a suspect" in without
    page = audit_page(summary(rows), {}, {"i2": "data:image/jpeg;base64,AAAA"})
    assert '<th scope="col">picture</th>' in page
    assert page.count("<img ") == 1
    assert 'alt="item i2"' in page


def test_a_long_text_is_cut_and_a_text_equal_to_the_title_is_said_once() -> None:
    page = audit_page(
        summary([row("i1", text="word " * 100), row("i2", title="A", text="A")]), {}, {}
    )
    assert "word…" in page
    assert "word " * 40 not in page
    assert page.count(">A<") == 1


def test_the_table_of_all_items_has_empty_cells_and_no_formulas() -> None:
    text = audit_csv(
        ["item", "title", "weight"],
        [
            {"item": "-1", "title": "=cmd()", "weight": math.nan},
            {"item": "b,c", "title": 'x"\ny', "weight": np.float64(1 / 3)},
            {"item": "d", "title": "", "weight": None},
        ],
    )
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[1] == ["-1", "'=cmd()", ""]
    assert rows[2] == ["b,c", 'x" y', "0.333333"]
    assert rows[3] == ["d", "", ""]


def test_the_terminal_shows_titles_only_if_there_are_any() -> None:
    part = summary([row("i1", title="T" * 90), row("i2")])["audit"]["modalities"][0]
    assert least_reliable_table(part, 1).headers[:2] == ("item", "title")
    assert len(least_reliable_table(part, 1).rows) == 1
    assert least_reliable_table({**part, "least": [row("i2")]}, 9).headers[1] == "pairs"


def test_weights_without_a_choice_are_shown_as_unknown() -> None:
    parts = [{"modality": "m", "count": 0, "mean": None, "std": None, "share_decided": None}]
    table = weights_table(
        [
            {
                "label": "MARGO",
                "seed": 1,
                "rows": "items",
                "entropy_bits": None,
                "relative_entropy": None,
                "modalities": parts,
            }
        ]
    )
    assert [cell.text for cell in table.rows[0]][4:] == ["–"] * 5


@pytest.mark.parametrize("count", [1, 3, 5, 400])
def test_binned_means_are_between_the_extremes(count: int) -> None:
    random = np.random.default_rng(count)
    x, y = random.integers(1, 9, count).astype(float), random.random(count)
    middles, means = binned_means(x, y)
    assert 1 <= len(middles) <= 10
    assert (np.diff(middles) > 0).all()
    assert means.min() >= y.min()
    assert means.max() <= y.max()


def test_binned_means_known_by_hand() -> None:
    x = np.repeat([1.0, 2.0], 8)
    y = np.concatenate([np.zeros(8), np.ones(8)])
    middles, means = binned_means(x, y)
    assert (middles.tolist(), means.tolist()) == ([1.0, 2.0], [0.0, 1.0])


def test_figures_are_drawn_with_a_value_that_is_the_same_for_all(tmp_path: Any) -> None:
    random = np.random.default_rng(0)
    values = random.random(50)
    relations = [
        WeightRelation("image", "popularity", values, np.arange(50.0), 0.1, -0.2, 0.3),
        WeightRelation("text", "popularity", values, np.arange(50.0), 0.1, -0.2, 0.3),
        WeightRelation("text", "feature norm", values, values, 1.0, 1.0, 1.0),
    ]
    figure = relations_figure(relations, "title")
    assert figure is not None
    (empty,) = [panel for panel in figure.axes if panel.texts]
    assert "same for all" in empty.texts[0].get_text()
    part = EvidenceFigure(
        "image",
        np.arange(1, 51),
        values,
        values - 0.1,
        values + 0.1,
        values > 0.5,
        0.5,
        {"least": np.array([1, 2]), "most": np.array([], dtype=int)},
    )
    assert draw(tmp_path / "evidence", lambda: evidence_figure([part] * 3, "what", "title"))
    assert (tmp_path / "evidence.svg").stat().st_size > 5_000


def test_nothing_to_draw_is_no_figure() -> None:
    assert relations_figure([], "title") is None
    nothing = WeightDistribution("MARGO", "items", 1, {"text": np.array([])})
    assert weight_comparison_figure([nothing], ["text"], "title") is None


def test_histograms_share_axes_and_each_sums_to_100() -> None:
    random = np.random.default_rng(0)
    rows = [
        WeightDistribution(
            label, "items", seeds, {"image": random.random(count), "text": random.random(count)}
        )
        for label, seeds, count in (("MARGO", 1, 30), ("DRAGON", 3, 90))
    ]
    figure = weight_comparison_figure(rows, ["image", "text"], "title")
    assert figure is not None
    assert len({panel.get_ylim() for panel in figure.axes}) == 1
    for panel in figure.axes:
        assert sum(bar.get_height() for bar in panel.patches) == pytest.approx(100)
    assert "3 seeds" in figure.axes[2].get_ylabel()
