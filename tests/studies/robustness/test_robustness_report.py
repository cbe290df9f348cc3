"""What is shown of a robustness study that nobody ran."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_margo.evaluation.detection import Estimate
from recbole_margo.report import Fold, markdown_page, terminal_text
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.robustness.report import (
    detection_tables,
    quality_tables,
    robustness_report,
)
from recbole_margo.studies.robustness.result import (
    QUESTIONS,
    DetectorResult,
    FailedRun,
    Quality,
    Question,
    RobustnessResult,
    RocCurve,
    SeedDetection,
    WeightHistogram,
)

METRICS = ("recall@10", "recall@20", "ndcg@20")
AREAS = {"MARGO": 0.7, "DRAGON": 0.5, "neighbor agreement": 0.65}
RATES = np.linspace(0, 1, 5)


def estimate(mean: float, deviation: float | None = 0.01) -> Estimate:
    return Estimate(mean, deviation, mean - 0.04, mean + 0.04)


def quality(model: str, step: float, value: float) -> Quality:
    return Quality(
        model,
        step,
        seeds=(1, 2),
        values=dict.fromkeys(METRICS, (value - 0.01, value + 0.01)),
        mean=dict.fromkeys(METRICS, value),
        std=dict.fromkeys(METRICS, 0.0141),
    )


def detection(
    detector: str, modality: str, question: Question, step: float = 1.0
) -> DetectorResult:
    auc = AREAS[detector]
    return DetectorResult(
        step,
        modality,
        question.items,
        question.negatives,
        detector,
        seeds=tuple(
            SeedDetection(seed, 1000, 300, *([auc] * 3), *([auc - 0.2] * 3), 0.3) for seed in (1, 2)
        ),
        auc=estimate(auc),
        average_precision=estimate(auc - 0.2),
        chance=0.3,
        auc_above_reference=None if detector == "MARGO" else estimate(auc - 0.7),
    )


def made_up_study(**changes: Any) -> RobustnessResult:
    """Return a study of two models, two modalities and two seeds."""
    study = RobustnessResult(
        dataset="tiny_1",
        eval_protocol="mmrec",
        split="abc",
        seeds=(1, 2),
        valid_metric="Recall@20",
        share={"text": 0.3, "audio": 0.3},
        kind="swap",
        signal_to_noise=None,
        steps=(0.0, 1.0),
        shares=({"text": 0.0, "audio": 0.0}, {"text": 0.3, "audio": 0.3}),
        models=("MARGO", "DRAGON"),
        settings={"alpha": 1.0},
        metrics=METRICS,
        errors=(),
        quality=(
            quality("MARGO", 0.0, 0.40),
            quality("MARGO", 1.0, 0.36),
            quality("DRAGON", 0.0, 0.41),
            quality("DRAGON", 1.0, 0.33),
        ),
        reference="MARGO",
        detection=tuple(
            detection(detector, modality, question)
            for modality in ("text", "audio")
            for question in QUESTIONS
            for detector in AREAS
        ),
        roc=tuple(
            RocCurve(1.0, modality, detector, tuple(RATES), tuple(np.sqrt(RATES)))
            for modality in ("text", "audio")
            for detector in AREAS
        ),
        weights=tuple(
            WeightHistogram(
                *(1.0, modality, "MARGO"),
                edges=(0.0, 0.25, 0.5, 0.75, 1.0),
                corrupted=(3, 4, 2, 1),
                mean_corrupted=0.41,
                intact=(1, 3, 9, 4),
                mean_intact=0.58,
            )
            for modality in ("text", "audio")
        ),
        why_no_detection=None,
    )
    return replace(study, **changes)


def test_quality_has_a_column_a_step_and_what_was_lost() -> None:
    recall, ndcg = quality_tables(made_up_study())
    assert (recall.title, ndcg.title) == ("Recall@20 on test", "NDCG@20 on test")
    assert recall.headers == ("model", "clean", "text 30 %, audio 30 %", "change")
    margo, dragon = recall.rows
    assert [cell.text for cell in margo] == [
        "MARGO",
        "0.4000 ± 0.0141",
        "0.3600 ± 0.0141",
        "-10.0 %",
    ]
    assert [cell.best for cell in dragon] == [False, True, False, False]


def test_detection_shows_interval_difference_and_chance() -> None:
    text, audio = detection_tables(made_up_study(), 1.0)
    assert text.title == "Detection of corrupted text (swap, 30 % of the items)"
    by_name = {row[0].text: [cell.text for cell in row] for row in text.rows}
    assert by_name["MARGO"][1:4] == ["0.700 ± 0.010", "[0.660, 0.740]", "–"]
    assert by_name["DRAGON"][3] == "-0.200 [-0.240, -0.160]"
    assert by_name["DRAGON"][-1] == "0.300"
    assert [row[1].best for row in text.rows] == [True, False, False]
    assert text.notes == (
        "Corrupted among the items asked about, by seed: 300 of 1,000; 300 of 1,000.",
    )
    assert audio.title.startswith("Detection of corrupted audio")


def test_different_shares_and_noise_are_named() -> None:
    study = made_up_study(
        share={"text": 0.3, "audio": 0.2},
        shares=({"text": 0.0, "audio": 0.0}, {"text": 0.3, "audio": 0.2}),
        kind="noise",
        signal_to_noise=-3.0,
    )
    assert study.step_name(1.0) == "text 30 %, audio 20 %"
    corruption = dict(robustness_report(study).document.facts)["Corruption"]
    assert corruption == "noise: noise added to the rows, signal-to-noise ratio -3 dB"


def test_the_table_of_numbers_has_every_seed_and_statistic() -> None:
    rows = list(
        csv.DictReader(io.StringIO(robustness_report(made_up_study()).texts["robustness.csv"]))
    )
    of_quality = [row for row in rows if row["about"] == "quality"]
    assert len(of_quality) == 4 * 3 * 4
    (found,) = [
        row["value"]
        for row in rows
        if (row["name"], row["modality"], row["metric"], row["statistic"])
        == ("DRAGON", "text", "auc_above_reference", "low")
        and (row["items"], row["negatives"]) == ("all", "all others")
    ]
    assert float(found) == pytest.approx(-0.24)


def test_a_failure_is_told_everywhere(tmp_path: Path) -> None:
    study = made_up_study(errors=(FailedRun("DRAGON", 1.0, 2, "out of <memory>"),))
    *others, last = study.quality
    last = replace(last, seeds=(1,), values=dict.fromkeys(METRICS, (0.33,)))
    study = replace(study, quality=(*others, last))
    line = "DRAGON (text 30 %, audio 30 %) failed, seed 2: out of <memory>"
    assert line in terminal_text(robustness_report(study).shown)
    assert "0.3300 ± 0.0141 (1 of 2 seeds)" in terminal_text(robustness_report(study).shown)
    robustness_report(study).write(tmp_path)
    page = (tmp_path / "robustness.html").read_text()
    assert "out of &lt;memory&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_every_file_is_written_and_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    files = robustness_report(made_up_study()).write(tmp_path / "one")
    again = robustness_report(made_up_study()).write(tmp_path / "two")
    assert len(files) == 10
    for file, other in zip(files, again, strict=True):
        assert file.read_bytes() == other.read_bytes()
    stored = json.loads((tmp_path / "one/robustness.json").read_text())
    assert stored == as_plain(made_up_study())


def test_without_detection_its_figures_go_and_the_reason_stands(tmp_path: Path) -> None:
    robustness_report(made_up_study()).write(tmp_path)
    why = "There is nothing to detect."
    study = made_up_study(detection=(), roc=(), weights=(), why_no_detection=why)
    robustness_report(study).write(tmp_path)
    assert not (tmp_path / "detection.png").exists()
    assert not (tmp_path / "weights-of-corrupted.svg").exists()
    for file in ("robustness.md", "robustness.html"):
        assert why in (tmp_path / file).read_text()


def test_smaller_shares_stand_behind_a_fold_of_the_page_and_not_on_the_terminal() -> None:
    study = made_up_study(steps=(0.0, 0.5, 1.0))
    half = {"text": 0.15, "audio": 0.15}
    earlier = [detection("MARGO", "text", question, 0.5) for question in QUESTIONS]
    study = replace(
        study,
        shares=(study.shares[0], half, study.shares[1]),
        quality=(*study.quality, quality("MARGO", 0.5, 0.38), quality("DRAGON", 0.5, 0.35)),
        detection=(*earlier, *study.detection),
    )
    title = "Detection of corrupted text (swap, 15 % of the items)"
    assert title not in terminal_text(robustness_report(study).shown)
    document = robustness_report(study).document
    assert title in markdown_page(document)
    folds = [part for part in document.sections[-1].parts if isinstance(part, Fold)]
    assert [table.title for table in folds[-1].parts] == [title]
    # Only one detector, so nothing is compared with it.
    assert "AUC minus MARGO's" not in folds[-1].parts[0].headers
