"""A comparison with cold items has a table of them, and baselines beside the models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_studies import compare_seeds

from recbole_margo.store.plain import as_plain, from_plain
from recbole_margo.studies.comparison.cold import cold_tables
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.trained_run import find_runs
from recbole_margo.testing import NAME, SETTINGS, random_world


def test_warm_and_cold_items_are_reported_with_baselines(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "data_path": str(random_world().write(tmp_path / "data")),
        "epochs": 2,
        "cold_items": 0.2,
        "embedding_size": 8,
    }
    compared = compare_seeds(
        Entry.of_models(["VBPR", "BM3"]), NAME, [1, 2], settings, str(tmp_path / "out")
    )
    assert compared.cold is not None and compared.cold.items == 3
    labels = [row.label for row in compared.cold.rows]
    assert labels == ["VBPR", "BM3", "popularity", "content kNN"]
    runs = [run for run in find_runs(tmp_path / "out") if run.model_name == "VBPR"]
    assert len(runs) == 2 and len({run.result.split for run in runs}) == 1
    first = compared.cold.rows[0]
    for part in ("among_cold", "among_all"):
        values = [run.result.as_plain()["cold"][part]["recall@5"] for run in runs]
        assert getattr(first, part)["recall@5"] == pytest.approx(np.mean(values))
    tables = cold_tables(compared.cold)
    assert [row[-1].text for row in tables[0].rows] == [
        "contents",
        "the mean item",
        "popularity",
        "content kNN",
    ]
    assert "3 items were kept out" in tables[0].notes[0]
    page = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "on warm and cold items" in page and "content kNN" in page
    assert from_plain(Comparison, as_plain(compared)).cold == compared.cold
