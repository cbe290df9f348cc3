"""The benchmarks of held-out evidence print what they found on small data."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import evidence_cost, evidence_detection
from benchmarks.shapes import TINY
from recbole_margo.run import run_recbole_margo
from recbole_margo.testing import random_world


def words(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark", *arguments])


def test_the_cost_is_measured_on_features_that_show_who_likes_an_item(tmp_path, capsys):
    evidence_cost.write(TINY, 24, tmp_path)
    assert np.load(tmp_path / "features.npy").shape == (TINY.items, 24)
    evidence_cost.measure(tmp_path)
    out = capsys.readouterr().out
    assert "s of processor time" in out and "peak memory" in out and "rows fit" in out


def test_an_unknown_size_is_refused(monkeypatch, capsys):
    words(monkeypatch, "babies")
    with pytest.raises(SystemExit) as stopped:
        evidence_cost.main()
    assert stopped.value.code == 2
    assert "expected baby, clothing" in capsys.readouterr().err


def test_low_trust_of_swapped_rows_is_found():
    swapped = np.arange(20)[:, None] % 4 == np.array([0, 1])
    draws: evidence_detection.Draws = {}
    asked = np.arange(20) > 0
    evidence_detection.ask(draws, "knows", -swapped.astype(float), swapped, asked, ("a", "b"))
    evidence_detection.ask(draws, "errs", swapped.astype(float), swapped, asked, ("a", "b"))
    assert [found[0].auc for found in draws.values()] == [1, 1, 0, 0]
    assert draws["knows", "a"][0].items == 19


def test_evidence_and_weights_of_a_planted_draw_are_asked(tmp_path, monkeypatch, capsys):
    path = random_world(2, users=60, items=40).write(tmp_path / "data", "tiny")
    words(monkeypatch, "--dataset=tiny", f"--data_path={path}", "--seeds=2")
    assert evidence_detection.main() == 0
    out = capsys.readouterr().out
    for name in ("share that fits", "content score", "neighbor agreement", "reliability vector"):
        assert name in out
    settings = {
        "data_path": str(path),
        "epochs": 1,
        "evidence": "held_out",
        "feature_corruption": {"share": {"image": 0.3, "text": 0.3}},
    }
    run_recbole_margo("MARGO", "tiny", config_dict=settings, output_dir=tmp_path / "run")
    words(monkeypatch, "--runs", str(tmp_path / "run" / "MARGO"))
    assert evidence_detection.main() == 0
    assert "weights, evidence: held_out" in capsys.readouterr().out
