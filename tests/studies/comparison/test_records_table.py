"""Tables of results."""

from __future__ import annotations

from typing import Any

from recbole_margo.studies.comparison.records import comparison_document, comparison_table


def record(model: str, recall: float, **changes: Any) -> dict[str, Any]:
    stage = {
        "name": "training",
        "epochs": 7,
        "best_epoch": 4,
        "valid": {"recall@20": recall},
        "test": {"recall@20": recall},
    }
    return {
        "status": "finished",
        "model": model,
        "dataset": "d",
        "seed": 1,
        "eval_protocol": "mmrec",
        "valid_metric": "Recall@20",
        "modalities": None,
        "split": "abc",
        "stages": [stage],
        "last_stage_is_best": True,
        "valid": {"recall@20": recall},
        "test": {"recall@20": recall},
        "seconds": 1.25,
        "peak_memory_bytes": {"host": 3 * 2**20},
        **changes,
    }


FAILED = {"status": "failed", "model": "Bad", "error": "ValueError: no"}


def test_the_best_value_is_bold_and_equals_share_it() -> None:
    table = comparison_table([record("A", 0.1), record("B", 0.20001), record("C", 0.20002)])
    rows = {line.split("|")[1].strip(): line for line in table.splitlines()[2:]}
    assert "**" not in rows["A"]
    assert "**0.2000**" in rows["B"]
    assert "**0.2000**" in rows["C"]
    assert "| 5 " in rows["A"]
    assert "1.2" in rows["A"]


def test_a_failed_model_is_in_the_table_and_explained_below() -> None:
    document = comparison_document([record("A", 0.1), FAILED])
    assert "| Bad     | failed" in document
    assert "Bad failed: ValueError: no" in document


def test_only_failures_make_a_document_too() -> None:
    assert "Bad failed: ValueError: no" in comparison_document([FAILED])


def test_the_document_names_protocol_and_split() -> None:
    document = comparison_document([record("A", 0.1), record("B", 0.2, split="other")])
    assert "`mmrec` (only training items leave the candidates at test" in document
    assert "NOT the same for all models" in document
    assert "all models share it" in comparison_document([record("A", 0.1)])


def test_two_stages_are_told_and_a_worse_last_one_is_admitted() -> None:
    stages = [
        {"name": name, "epochs": 3, "best_epoch": 1, "valid": {"recall@20": value}}
        | {"test": {"recall@20": value}}
        for name, value in (("stage1", 0.3), ("stage2", 0.2))
    ]
    document = comparison_document([record("M", 0.2, stages=stages, last_stage_is_best=False)])
    assert "- stage1: best epoch 2 of 3, recall@20 0.3000 on validation, 0.3000 on test" in document
    assert "No epoch of the last stage reached" in document


def test_smaller_is_better_where_recbole_says_so() -> None:
    records = [
        record(name, 0.1, test={"giniindex": value}) for name, value in (("A", 0.9), ("B", 0.5))
    ]
    rows = {line.split("|")[1].strip(): line for line in comparison_table(records).splitlines()[2:]}
    assert "**0.5000**" in rows["B"]
    assert "**" not in rows["A"]
