"""The audit's page, table and figures from made-up numbers."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from made_up_audit import made_audit, made_audit_result, made_result, made_rows, made_weights

from recbole_margo.report import html_page
from recbole_margo.report.figures import draw
from recbole_margo.studies.audit.figures import (
    binned_means,
    evidence_figure,
    relations_figure,
    weights_figure,
)
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.report import audit_csv, audit_document
from recbole_margo.studies.audit.result import AuditSettings, LearnedAudit
from recbole_margo.studies.audit.row_tables import (
    answers,
    modalities_table,
    quiet,
    short_table,
)
from recbole_margo.studies.audit.tables import least_reliable_table, weights_table

EVIL = '<script>alert(1)</script>" onerror="x'


def page_of(result: LearnedAudit | None, pictures: dict[str, str] | None = None) -> str:
    return html_page(audit_document(made_audit_result(result), pictures or {}))


def named(token: str, title: str = "", text: str = "") -> LearnedAudit:
    """Return a result whose first and only suspect has this token, title and text."""
    result = made_result(contents=ItemContents({token: title}, {token: text}))
    items = np.array([token, "i1", "i2", "i3"])
    return replace(result, catalogue=replace(result.catalogue, items=items))


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
    page = page_of(named(EVIL, EVIL, EVIL), {EVIL: "data:image/jpeg,x"})
    tags = Tags(page)
    assert tags.open == []
    names = [tag for tag, _ in tags.found]
    assert "script" not in names
    assert not any("onerror" in attributes for _, attributes in tags.found)
    pictures = [attributes for tag, attributes in tags.found if tag == "img"]
    assert {picture["src"] for picture in pictures} == {"data:image/jpeg,x"}
    assert "&lt;script&gt;" in page


def test_items_have_a_picture_only_if_there_is_one() -> None:
    without = page_of(made_result())
    assert "<img" not in without
    assert "not a suspect" in without
    page = page_of(made_result(), {"i1": "data:image/jpeg;base64,AAAA"})
    # As a text that does not fit, as the least reliable text and as a reliable image.
    assert page.count("<img ") == 3


def test_a_long_text_is_cut_and_a_text_equal_to_the_title_is_said_once() -> None:
    page = page_of(named("i0", text="word " * 100))
    assert "word…" in page
    assert "word " * 40 not in page
    once = page_of(named("i0", title="A film", text="A film"))
    # As an image that does not fit, as the least reliable image and as the most reliable text.
    assert once.count("A film") == 3


def test_the_table_of_all_items_has_empty_cells_and_no_formulas() -> None:
    result = named("-1", title="=cmd()")
    weights = np.array([[np.nan, 1], [1 / 3, 2 / 3], [0.5, 0.5], [0.5, 0.5]])
    contents = ItemContents({"-1": "=cmd()", "i1": 'x"\ny'})
    catalogue = replace(result.catalogue, weights=weights)
    learned = replace(result, catalogue=catalogue, contents=contents)
    text = audit_csv(made_audit_result(learned))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[1][:5] == ["-1", "'=cmd()", "image", "1", ""]
    assert rows[3][:5] == ["i1", 'x" y', "image", "1", "0.333333"]


def test_the_terminal_shows_titles_only_if_there_are_any() -> None:
    (part, _) = named("i0", title="T" * 90).modalities
    table = least_reliable_table(part, 1)
    assert table.headers[:2] == ("item", "title")
    assert len(table.rows) == 1
    assert table.rows[0][1].text == "T" * 39 + "…"
    assert least_reliable_table(made_result().modalities[0], 9).headers[1] == "pairs"


def test_weights_without_a_choice_are_shown_as_unknown() -> None:
    table = weights_table([made_weights([[1.0]]).statistics()])
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
    catalogue = made_audit(random.random(50), [0.1] * 50, list(range(1, 51)))
    norms = np.stack([np.ones(50), random.random(50)], axis=1)
    result = made_result(catalogue, norms=norms, settings=AuditSettings(min_pairs=9))
    figure = relations_figure(result)
    assert figure is not None
    (empty,) = [panel for panel in figure.axes if panel.texts]
    assert "same for all" in empty.texts[0].get_text()
    assert draw(tmp_path / "evidence", lambda: evidence_figure(result))
    assert (tmp_path / "evidence.svg").stat().st_size > 5_000


def test_nothing_to_draw_is_no_figure() -> None:
    catalogue = made_audit([0.5] * 9, [0.1] * 9, [0] * 9)
    unknown = np.full((9, 2), np.nan)
    result = made_result(replace(catalogue, evidence=unknown), weights=(made_weights([[1.0]]),))
    assert relations_figure(result) is None
    assert evidence_figure(result) is None
    only = replace(catalogue, modalities=("image",))
    assert weights_figure(replace(result, catalogue=only)) is None


def test_histograms_share_axes_and_each_sums_to_100() -> None:
    random = np.random.default_rng(0)
    weights = [made_weights(random.random((30, 2)))]
    weights += [
        made_weights(random.random((30, 2)), label="DRAGON", seed=seed, rows="users")
        for seed in (1, 2, 3)
    ]
    figure = weights_figure(made_result(weights=tuple(weights)))
    assert figure is not None
    assert len({panel.get_ylim() for panel in figure.axes}) == 1
    for panel in figure.axes:
        assert sum(bar.get_height() for bar in panel.patches) == pytest.approx(100)
    assert "% of items" in figure.axes[0].get_ylabel()
    assert "users, 3 seeds" in figure.axes[2].get_ylabel()


def test_the_page_answers_three_questions_in_order_and_folds_the_method() -> None:
    page = page_of(None)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Which modality is in trouble?",
        "Which items to repair first?",
        "What would repairing change?",
    ]
    before, _, folded = page.partition("<details>")
    assert "without itself" in folded.partition("</details>")[0]
    assert "without itself" not in before
    assert "What was learned" in page_of(made_result())


def test_lists_begin_with_the_row_that_fits_least() -> None:
    result = made_audit_result()
    image, text = result.modalities
    assert [row.item for row in image.listed] == ["i0", "i2"]
    assert [row.item for row in text.listed] == ["i3", "i1"]
    # The mean of 1 - .9 and 1 - .2.
    assert [row.false_alarms for row in image.listed] == pytest.approx([0.1, 0.45])
    # A score that finds a right row first: what a later stop would cost is not exceeded before it.
    turned = made_rows([[0.2, 0.1], [0.9, 0.1], [0.8, 0.1], [0.1, 0.1]], [9] * 4)
    turned = replace(turned, scores=np.array([[-3.0, 0], [-2, 0], [-1, 0], [0, 0]]))
    upset = made_audit_result(rows=turned, settings=AuditSettings(items=2, min_pairs=1))
    shown = [row.false_alarms for row in upset.modalities[0].listed]
    assert shown == pytest.approx([(0.8 + 0.1 + 0.2) / 3] * 2)
    table = short_table(upset.modalities[0], 2)
    assert [row[table.headers.index("score")].text for row in table.rows] == ["-3.00", "-2.00"]
    few = made_audit_result(settings=AuditSettings(items=2, min_pairs=10)).modalities[1]
    # Of equal scores that of more users comes first.
    assert [row.item for row in few.listed] == ["i1", "i2"]


def test_what_repairing_changes_by_hand() -> None:
    (image, _) = made_audit_result().modalities
    fits, matching = np.array([0.1, 0.9, 0.8, 0.9]), np.array([0.1, 0.9, 0.8, 0.9])
    best = fits @ matching / fits.sum()
    assert image.matching == pytest.approx(matching.mean())
    assert image.matching_fitting == pytest.approx(best)
    repaired = [best, 0.9, max(0.8, best), 0.9]
    assert image.matching_repaired == pytest.approx(np.mean(repaired))
    assert image.unrelated == pytest.approx(1.3)
    assert image.interactions == pytest.approx((9 + 2 + 6 + 0.2) / 62)


@pytest.mark.parametrize(
    ("fitting", "said"),
    [(0.9, "fits: 90%"), (0.3, "weak but real: 30%"), (0.06, "no sign that its rows belong")],
)
def test_each_verdict_has_its_sentence(fitting: float, said: str) -> None:
    result = made_audit_result(rows=made_rows([[0.5, 0.5]] * 4, [9] * 4, fitting))
    assert all(said in sentence for sentence in answers(result))


def test_a_list_of_rows_that_fit_is_folded_and_says_that_none_stands_out() -> None:
    result = made_audit_result(rows=made_rows([[0.1, 0.9]] * 4, [9] * 4))
    image, text = result.modalities
    assert quiet(image).startswith("image: no row stands out") and not quiet(text)
    assert short_table(text, 2).notes[0].startswith("Begin at the top")
    folds = re.findall(r"<details>.*?</details>", html_page(audit_document(result, {})), re.DOTALL)
    shown = ["image: the rows that fit least" in fold for fold in folds]
    assert shown == [False, True] and not any("text: the rows" in fold for fold in folds)


def test_hostile_titles_are_cut_and_harmless() -> None:
    evil = "<script>\u202e" + "x" * 10_000
    result = made_audit_result(contents=ItemContents({"i0": evil}, {"i0": evil}))
    page = html_page(audit_document(result, {}))
    assert "<script" not in page
    assert "\u202e" not in page
    assert "x" * 200 not in page
    assert len(short_table(result.modalities[0], 1).rows[0][1].text) == 40


def test_a_verdict_says_what_it_is_on() -> None:
    (note,) = modalities_table(made_audit_result()).notes
    assert "each row belongs to its item" in note and "recbole-margo inspect" in note
