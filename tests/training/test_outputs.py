"""What of a log reaches the terminal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from recbole_margo.training import outputs

LINES = [
    ("epoch 1 training", outputs.RECBOLE / "trainer" / "trainer.py", {}),
    ("epoch 1 evaluating", outputs.RECBOLE / "trainer" / "trainer.py", {}),
    ("stage1 epoch 1 train", Path("stages.py"), {"of_epoch": False}),
    ("stage1 epoch 1 valid", Path("stages.py"), {"of_epoch": True}),
    ("stage1 ended", Path("stages.py"), {}),
]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (30.0, {"stage1 ended"}),
        (0.0, {"epoch 1 evaluating", "stage1 epoch 1 valid", "stage1 ended"}),
    ],
)
def test_epochs_are_in_the_file_and_few_on_the_terminal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds: float,
    shown: set[str],
) -> None:
    monkeypatch.setattr(outputs, "SECONDS_BETWEEN_EPOCHS", seconds)
    root = logging.getLogger()
    with outputs.logging_to(tmp_path / "train.log"):
        for text, place, marks in LINES:
            record = root.makeRecord(
                "root", logging.INFO, str(place), 1, text, (), None, extra=marks
            )
            root.handle(record)
        root.warning("a warning")
    printed = capsys.readouterr().err
    assert {text for text, _, _ in LINES if text in printed} == shown
    assert "a warning" in printed
    written = (tmp_path / "train.log").read_text()
    assert all(text in written for text, _, _ in LINES)
