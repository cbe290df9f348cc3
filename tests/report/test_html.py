"""The page of a comparison and the folder it lies in."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_comparison import compared, made_up_model, made_up_summary

from recbole_margo.report import html_page
from recbole_margo.studies.comparison.report import comparison_document, comparison_report

VOID = {"meta", "img"}
HOSTILE = "</td></table><script>alert(1)</script>\"' onload=x & <b>\x00\u202e"


def comparison_page(summary: dict[str, Any], drawings: dict[str, bytes]) -> str:
    return html_page(comparison_document(compared(summary)), drawings)


class Page(HTMLParser):
    """Reads a page and holds it to its end tags."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


DRAWN = {"metrics": b"<svg/>", "differences": b"<svg/>", "slices": b"<svg/>"}


def test_a_page_has_all_parts_and_needs_nothing_beside_itself() -> None:
    text = comparison_page(made_up_summary(), DRAWN)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    for part in ("Comparison on lfm2k", "Test metrics", "Tests", "Slices", "Runs", "Settings"):
        assert part in page.text
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "base"}
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes


def test_figures_are_inside_and_described() -> None:
    images = [
        of for tag, of in Page(comparison_page(made_up_summary(), DRAWN)).tags if tag == "img"
    ]
    assert len(images) == 3
    for of in images:
        source, alt = of["src"], of["alt"]
        assert source is not None
        assert alt is not None
        kind, data = source.split(",")
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(data) == b"<svg/>"
        assert "hold" in alt
    assert "MARGO" in str(images[1]["alt"])


def test_hostile_text_stays_text() -> None:
    summary = made_up_summary([HOSTILE, "B"], dataset=HOSTILE, split=HOSTILE, eval_protocol=HOSTILE)
    summary["models"][1]["settings"] = {HOSTILE: HOSTILE}
    summary["models"].append(
        made_up_model("C", {}, errors={"1": HOSTILE, "2": HOSTILE}, model=HOSTILE)
    )
    for part in summary["slices"]:
        part["kind"] = part["name"] = HOSTILE
    text = comparison_page(summary, DRAWN)
    page = Page(text)
    usual = {tag for tag, _ in Page(comparison_page(made_up_summary(), DRAWN)).tags}
    assert {tag for tag, _ in page.tags} <= usual | {"ul", "li"}
    assert "\x00" not in text
    assert "\u202e" not in text
    shown = "</td></table><script>alert(1)</script>\"' onload=x & <b>"
    assert page.cells.count(shown) > 4
    assert f"C failed, seed 1: {shown}" in page.text


def numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from numbers_of(part)
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3]])
def test_every_number_of_the_tables_is_one_of_the_summary_rounded(seeds: list[int]) -> None:
    summary = made_up_summary(seeds=seeds)
    known = {form.format(value) for value in numbers_of(summary) for form in ("{:.4f}", "{:+.4f}")}
    page = Page(comparison_page(summary, DRAWN))
    shown = [found for cell in page.cells for found in re.findall(r"[-+]?\d+\.\d{4}\b", cell)]
    # 3 models x 4 metrics in the first table alone.
    assert len(shown) > 12
    assert [text for text in shown if text not in known and text != "0.0001"] == []
    for entry in summary["models"]:
        for metric in summary["metrics"]:
            mean, deviation = entry["mean"][metric], entry["std"][metric]
            text = f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"
            assert any(cell.rstrip("†") == text for cell in page.cells)
    for test in summary["tests"]["ndcg@20"]:
        assert f"[{test['low']:+.4f}, {test['high']:+.4f}]" in page.cells


def test_rows_have_as_many_cells_as_the_head() -> None:
    text = comparison_page(made_up_summary([f"M{number}" for number in range(13)]), DRAWN)
    tables = re.findall(r"<table.*?</table>", text, re.S)
    assert len(tables) == 1 + 4 + 3 + 2
    for table in tables:
        counts = {len(re.findall("<t[hd]", row)) for row in re.findall(r"<tr>.*?</tr>", table)}
        assert len(counts) == 1


def test_failures_are_told_first_and_nothing_else_is_invented() -> None:
    failed = [made_up_model("A", {}, errors={"1": "OutOfMemoryError: 9 GiB"})]
    page = Page(comparison_page(made_up_summary("A", [1], models=failed, slices=[], tests={}), {}))
    assert page.text.index("A failed, seed 1: OutOfMemoryError: 9 GiB") < page.text.index(
        "Test metrics"
    )
    assert "Slices" not in page.text
    assert "img" not in {tag for tag, _ in page.tags}


def test_nothing_finished_makes_a_report_of_failures(tmp_path: Path) -> None:
    failed = [
        made_up_model("A", {}, errors={"1": "no"}),
        made_up_model("B", {}, errors={"1": "no"}),
    ]
    # What the experiment knows when no run came to an end.
    unknown = {"eval_protocol": None, "valid_metric": None, "split": ""}
    summary = made_up_summary("AB", [1], [], models=failed, slices=[], tests={}, **unknown)
    files = comparison_report(compared(summary)).write(tmp_path)
    assert [path.name for path in files if path.suffix in (".png", ".svg")] == []
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "B failed, seed 1: no" in text
    assert "None" not in text
    assert "None" not in (tmp_path / "comparison.md").read_text(encoding="utf-8")


def test_several_splits_are_called_so_and_shared_settings_are_told() -> None:
    text = Page(comparison_page(made_up_summary(split="aa bb", settings={"epochs": 5}), {})).text
    assert "aa, bb: NOT the same for all runs" in text
    assert "epochs = 5" in text
    assert "0f3a9c: the same for all runs" in Page(comparison_page(made_up_summary(), {})).text


def test_the_folder_holds_every_file_that_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    summary = made_up_summary(["MARGO", "naïve – 日本 \udc80"])
    files = comparison_report(compared(summary)).write(folder)
    assert sorted(files) == sorted(folder.iterdir())
    assert sorted(path.name for path in files) == [
        *("comparison.csv", "comparison.md", "comparison.tex"),
        *("differences.png", "differences.svg", "metrics.png", "metrics.svg"),
        *("report.html", "slices.png", "slices.svg", "summary.json"),
    ]
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == summary
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert base64.b64encode((folder / "metrics.svg").read_bytes()).decode() in page


def test_a_later_report_leaves_no_figure_of_an_earlier_one(tmp_path: Path) -> None:
    comparison_report(compared(made_up_summary())).write(tmp_path)
    files = comparison_report(compared(made_up_summary(["MARGO"], slices=[]))).write(tmp_path)
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert not (tmp_path / "slices.png").exists()
    assert not (tmp_path / "differences.svg").exists()


def test_what_json_has_no_number_for_is_null_there(tmp_path: Path) -> None:
    summary = made_up_summary(["A", "B"])
    summary["tests"]["recall@20"][0]["effect_size"] = -math.inf
    summary["models"][1]["values"]["recall@20"][0] = math.nan
    summary["models"][1]["mean"]["recall@20"] = math.nan
    comparison_report(compared(summary)).write(tmp_path)
    stored = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert stored["tests"]["recall@20"][0]["effect_size"] is None
    assert stored["models"][1]["values"]["recall@20"][0] is None
    assert "-inf" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_values_that_do_not_fit_the_seeds_leave_the_folder_as_it_was(tmp_path: Path) -> None:
    summary = made_up_summary()
    summary["seeds"] = [1]
    with pytest.raises(Exception, match="give one value a seed"):
        comparison_report(compared(summary)).write(tmp_path / "report")
    assert not (tmp_path / "report").exists()
