"""The kit that shows results: one document, the same in every format; it knows no study, no model.

    table = Table("Test metrics", ("model", "NDCG@20"), ((Cell("MARGO"), Cell("0.1", best=True)),))
    curve = Figure("curve", "NDCG@20 by epoch.", lambda: draw_curve(result))
    document = Document(
        "MARGO on baby",
        (("Dataset", "baby"), ("Seeds", "1, 2")),
        (*failure_section(lines), Section("Results", (curve, table, Paragraphs(("A note.",))))),
    )
    texts = {"sweep.json": json_text(plain), "sweep.csv": csv_text(columns, rows)}
    files = write_document(folder, "sweep", document, texts)  # sweep.md, sweep.html, curve.png, ...
    shown = terminal_text(document.sections, bold=terminal_bold())
    paper = latex_table(table, "Results on baby.")

A figure whose function returns None is left out, and so is a section that is empty then; so a study
says once what it shows, and the kit what there is. `recbole_margo.report.figures` has what figures
share: `panel_grid`, `legend_below`, `look`, `wrapped`.
"""

from recbole_margo.report.document import (
    NOTHING,
    Bullets,
    Cell,
    Columns,
    Document,
    Figure,
    Fold,
    Interval,
    Paragraphs,
    Part,
    Section,
    Table,
    cells,
    clean,
    failure_section,
    shorten,
)
from recbole_margo.report.rendering import (
    csv_text,
    html_page,
    json_text,
    latex_table,
    markdown_page,
    terminal_bold,
    terminal_text,
    write_document,
    write_texts,
)

__all__ = [
    "NOTHING",
    "Bullets",
    "Cell",
    "Columns",
    "Document",
    "Figure",
    "Fold",
    "Interval",
    "Paragraphs",
    "Part",
    "Section",
    "Table",
    "cells",
    "clean",
    "csv_text",
    "failure_section",
    "html_page",
    "json_text",
    "latex_table",
    "markdown_page",
    "shorten",
    "terminal_bold",
    "terminal_text",
    "write_document",
    "write_texts",
]
