"""The table of train."""

from __future__ import annotations

from dataclasses import replace

from recbole_margo.report import markdown_page
from recbole_margo.report.document import table_text
from recbole_margo.run_folder import FailedRun, RunOutcome, RunResult, StageResult
from recbole_margo.studies.comparison.compare import models_document, models_table


def stage(name: str, value: float) -> StageResult:
    return StageResult(
        name=name,
        epochs=7,
        best_epoch=4,
        best_score=value,
        seconds=1.25,
        valid={"recall@20": value},
        test={"recall@20": value},
    )


def result(model: str, recall: float) -> RunResult:
    return RunResult(
        model=model,
        dataset="d",
        seed=1,
        eval_protocol="mmrec",
        valid_metric="Recall@20",
        split="abc",
        stages=(stage("training", recall),),
        last_stage_is_best=True,
        valid={"recall@20": recall},
        test={"recall@20": recall},
        config={},
        seconds=1.25,
        peak_memory_bytes={"host": 3 * 2**20},
    )


FAILED = FailedRun("Bad", "ValueError: no")


def page(*outcomes: RunOutcome) -> str:
    return markdown_page(models_document(outcomes))


def rows_of(*outcomes: RunOutcome) -> dict[str, str]:
    lines = table_text(models_table(outcomes), style="github").splitlines()[2:]
    return {line.split("|")[1].strip(): line for line in lines}


def test_the_best_value_is_bold_and_equals_share_it() -> None:
    rows = rows_of(result("A", 0.1), result("B", 0.20001), result("C", 0.20002))
    assert "**" not in rows["A"]
    assert "**0.2000**" in rows["B"]
    assert "**0.2000**" in rows["C"]
    assert "| 5 " in rows["A"]
    assert "1.2" in rows["A"] and "| 3 " in rows["A"]


def test_a_failed_model_is_in_the_table_and_explained() -> None:
    document = page(result("A", 0.1), FAILED)
    assert "| Bad     | failed" in document
    assert "Bad failed: ValueError: no" in document


def test_only_failures_make_a_page_too() -> None:
    assert "Bad failed: ValueError: no" in page(FAILED)


def test_the_page_names_protocol_and_split() -> None:
    document = page(result("A", 0.1), replace(result("B", 0.2), split="other"))
    assert "mmrec: only training items leave the candidates at test" in document
    assert "abc, other: NOT the same for all models" in document
    assert "abc: the same for all models" in page(result("A", 0.1))


def test_two_stages_are_told_and_a_worse_last_one_is_admitted() -> None:
    stages = (stage("stage1", 0.3), stage("stage2", 0.2))
    document = page(replace(result("M", 0.2), stages=stages, last_stage_is_best=False))
    assert "- stage1: best epoch 5 of 7, recall@20 0.3000 on validation, 0.3000 on test" in document
    admitted = "M: no epoch of stage2 reached the best validation score of stage1"
    assert f"{admitted} (recall@20 0.2000 against 0.3000)." in document


def test_smaller_is_better_where_recbole_says_so() -> None:
    rows = rows_of(
        replace(result("A", 0.1), test={"giniindex": 0.9}),
        replace(result("B", 0.1), test={"giniindex": 0.5}),
    )
    assert "**0.5000**" in rows["B"]
    assert "**" not in rows["A"]
