"""Items that have the very same row of a modality."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from made_up_audit import made_audit_result, made_rows

from recbole_margo.report import html_page
from recbole_margo.store.feature_files import equal_groups
from recbole_margo.studies.audit.audit import AuditResult
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.report import audit_csv, audit_document
from recbole_margo.studies.audit.row_tables import coarse, equal_table


@pytest.fixture
def result() -> AuditResult:
    """Return an audit in which the images of i1 and i0, and the texts of all but i2, are the same.

    The image fits i0 less well than i1.
    """
    rows = made_rows([[0.9, 0.1]] + [[0.1, 0.2]] * 9, [9] * 10)
    many = np.array([0, 1, 3, 4, 5, 6, 7, 8, 9])
    rows = replace(rows, equal=((np.array([1, 0]),), (many,)))
    return made_audit_result(rows=rows, contents=ItemContents({"i0": "Kettle", "i1": "Tent"}))


def test_groups_of_equal_rows_by_hand() -> None:
    rows = np.array([[1.0, 0.0], [2.0, 2.0], [1.0, -0.0], [3.0, 0.0], [2.0, 2.0], [2.0, 2.0]])
    assert [group.tolist() for group in equal_groups(rows)] == [[0, 2], [1, 4, 5]]


def test_a_pair_begins_with_the_item_that_the_row_fits_less(result: AuditResult) -> None:
    (image, text) = result.modalities
    table = equal_table(image, 9, None)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["i0 Kettle", "i1 Tent", "-0.90", "-0.10"]
    ]
    assert [row.same_as for row in image.listed] == ["i1", "i0"]
    placeholder = equal_table(text, 9, None)
    assert placeholder.rows == ()
    assert placeholder.notes[0].startswith("9 items share one row: ")
    assert all(row.same_as == "9 items" for row in text.listed if row.item != "i2")


def test_the_pairs_come_first_on_the_page_and_stand_in_the_files(result: AuditResult) -> None:
    page = html_page(audit_document(result, {}))
    assert page.index("image: the very same row twice") < page.index("image: the rows that fit")
    assert "9 items share one row" in page
    rows = list(csv.DictReader(io.StringIO(audit_csv(result))))
    first = [(row["same_as"], row["same_row_items"]) for row in rows[:6]]
    images, texts = first[::2], first[1::2]
    assert images == [("i1", "2"), ("i0", "2"), ("", "1")]
    assert texts == [("9 items", "9"), ("9 items", "9"), ("", "1")]
    plain = result.as_plain()["modalities"][0]["equal"]
    assert plain == [{"items": [{"item": "i0", "score": -0.9}, {"item": "i1", "score": -0.1}]}]


def test_rows_that_cannot_tell_items_apart_are_said_in_a_sentence(result: AuditResult) -> None:
    (image, text) = result.modalities
    assert coarse(replace(image, equal=image.equal * 99)) == ""
    assert coarse(text) == ""  # a placeholder is another thing
    told = coarse(replace(text, equal=text.equal * 10, present=400))
    assert told.startswith("text: 90 of 400 items share their row")
    notes = equal_table(replace(text, equal=text.equal * 5), 9, None).notes
    assert len(notes) == 4 and notes[3].startswith("2 more rows")


def test_more_pairs_than_are_shown_are_counted(result: AuditResult) -> None:
    (image, _) = result.modalities
    table = equal_table(replace(image, equal=image.equal * 4), 3, None)
    assert len(table.rows) == 3
    assert table.notes[1].startswith("1 more such rows are in audit.csv")
