"""A document in each of its formats."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from recbole_margo.report import (
    Bullets,
    Cell,
    Document,
    Figure,
    Fold,
    Interval,
    Paragraphs,
    Section,
    Table,
    failure_section,
    html_page,
    latex_table,
    markdown_page,
    terminal_text,
    write_document,
)
from recbole_margo.report.figures import new_figure

HOSTILE = "</td><script>alert(1)</script>\"' onload=x & <b>*_`[|\x00\u202e"
CLEANED = "</td><script>alert(1)</script>\"' onload=x & <b>*_`[|"


def drawn() -> Drawing:
    figure = new_figure(1.0)
    figure.subplots().plot([1, 2])
    return figure


def table(text: str = "A", **cell: object) -> Table:
    rows = ((Cell(text, **cell), Cell("0.2", best=True, significant=True)),)  # type: ignore[arg-type]
    return Table("Test metrics", ("model", "NDCG@20"), rows, ("Best in bold.",), ("model",))


def document() -> Document:
    return Document(
        "MARGO on baby",
        (("Dataset", "baby"),),
        (
            *failure_section(["B failed"]),
            Section("Results", (Figure("curve", "A curve.", drawn, ("Below.",)), table())),
            Section("Gone", (Figure("none", "", lambda: None),)),
            Section(None, (table("Z"), Fold("More", (Paragraphs(("Inside.",)),)))),
        ),
    )


class Texts(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.values: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_every_format_has_the_same_content_and_what_was_not_drawn_is_in_none(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "new"
    files = write_document(folder, "study", document(), {"study.csv": "a\n"}, page="report.html")
    assert sorted(files) == sorted(folder.iterdir())
    names = ("curve.png", "curve.svg", "report.html", "study.csv", "study.md")
    assert sorted(file.name for file in files) == list(names)
    page = (folder / "report.html").read_text(encoding="utf-8")
    markdown = (folder / "study.md").read_text(encoding="utf-8")
    parts = ("MARGO on baby", "What failed", "B failed", "Results", "A curve.", "Below.")
    for text in (page, re.sub(r"<[^>]*>", "", markdown)):
        at = [text.index(part) for part in (*parts, "Best in bold.", "More", "Inside.")]
        assert at == sorted(at)
        assert "Gone" not in text
    picture = base64.b64encode((folder / "curve.svg").read_bytes()).decode()
    assert picture in page
    assert "![A curve.](curve.svg)" in markdown
    assert "## Results\n" in markdown
    assert "### Test metrics\n" in markdown
    assert "\n## Test metrics\n" in markdown
    terminal = terminal_text(document().sections)
    assert terminal.startswith("What failed\n\nB failed\n\nResults\n\nTest metrics\nmodel")
    assert "**0.2** †" in terminal
    assert "Gone" not in terminal
    assert "Inside." not in terminal


def test_a_figure_that_is_drawn_no_more_leaves_no_file(tmp_path: Path) -> None:
    def at(drawing: object) -> Document:
        return Document("t", (), (Section("s", (Figure("f", "", drawing),)),))  # type: ignore[arg-type]

    write_document(tmp_path, "study", at(drawn))
    assert (tmp_path / "f.png").is_file()
    files = write_document(tmp_path, "study", at(lambda: None))
    assert sorted(files) == sorted(tmp_path.iterdir()) == [tmp_path / "study.html", files[0]]


def test_texts_of_others_stay_texts_in_every_place_of_a_page() -> None:
    cell = Cell(HOSTILE, aside=HOSTILE, below=HOSTILE, picture=HOSTILE, link=HOSTILE)
    hostile = Table(HOSTILE, (HOSTILE,), ((cell,),), (HOSTILE,), (HOSTILE,))
    figure = Figure("f", HOSTILE, drawn, (HOSTILE,))
    lines = (Bullets((HOSTILE,)), Paragraphs((HOSTILE,)), Fold(HOSTILE, (hostile,)))
    page = html_page(
        Document(HOSTILE, ((HOSTILE, HOSTILE),), (Section(HOSTILE, (hostile, figure, *lines)),)),
        {"f": b"<svg/>"},
    )
    found = Texts(page)
    assert not {"script", "b"} & set(found.tags)
    assert "\x00" not in page
    assert "\u202e" not in page
    # Title and heading, a fact's name and value, heading, two tables of title, header, cell of
    # three texts and note, caption, bullet, paragraph, fold.
    assert [text.strip() for text in found.texts].count(CLEANED) == 2 + 2 + 1 + 2 * 6 + 4
    # A label, an address and a picture in each table, and the figure's alternative.
    assert found.values.count(CLEANED) == 2 * 3 + 1


def test_markdown_shows_signs_as_they_are() -> None:
    text = markdown_page(Document("a_b", (("x", "<y>"),), (Section("*", (table("[1]|`"),)),)))
    assert text.startswith("# a\\_b\n\n- x: &lt;y&gt;\n\n## \\*\n")
    assert "\\[1\\]\\|\\`" in text


def test_an_interval_is_drawn_to_scale() -> None:
    interval = Interval(low=0.0, high=0.5, value=0.25, reference=1.0, faint=True)
    page = html_page(Document("t", (), (Section(None, (table(interval=interval),)),)))
    # 142 pixels for 0 to 1, with 4 on either side.
    assert 'd="M4.0 8H75.0"' in page
    assert 'cx="39.5"' in page
    assert 'd="M146.0 0V16"' in page
    assert 'opacity="0.45"' in page


def test_latex_escapes_and_marks() -> None:
    text = latex_table(table("A_1 ±"), "50 % of it")
    assert r"\caption{50 \% of it}" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"A\_1 $\pm$ & \textbf{0.2}$^{\dagger}$ \\" in text
