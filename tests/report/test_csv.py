"""Tables that spreadsheets open and programs read: nothing runs, and every text comes back."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_margo.report.rendering import csv_text

# As docs/audit.md says it.
ADDED = re.compile(r"^'(?='*[=+\-@\t\r\n＝＋－＠])")
RUN = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
texts = st.text(alphabet=st.sampled_from("'=+-@\t\n\r＝1a.e,\" "), max_size=6)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(st.lists(texts, min_size=1, max_size=4))
def test_no_text_is_run_and_each_comes_back(cells: list[str]) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(cells, [cells]), newline="")))
    assert len(rows) == 2
    for row in rows:
        assert not [cell for cell in row if RUN.match(cell) and not is_number(cell)]
        assert [ADDED.sub("", cell) for cell in row] == cells


@pytest.mark.parametrize("token", ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-1+1", "＝1"])
def test_item_ids_are_no_formulas(token: str) -> None:
    table = csv_text(["item", "title", "weight"], [[token, token, -1]])
    assert list(csv.reader(io.StringIO(table)))[1] == [f"'{token}", f"'{token}", "-1"]


def test_numbers_stay_numbers() -> None:
    assert csv_text(["a"], [[-0.5], ["-3"], ["+1e5"], [None]]) == 'a\n-0.5\n-3\n+1e5\n""\n'
