"""The benchmark of the service: what it prints, and that none of its requests fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import serving


def test_the_load_on_the_service_is_one_table_and_needs_wrk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    words = ["--shape=tiny", "--seconds=1", "--memory_seconds=2", "--swaps=2", "--connections=2"]
    if shutil.which("wrk"):
        assert serving.main(words) == 0
        told = capsys.readouterr().out
        assert "| a list of ten, during 2 swaps" in told and "60 users, 40 items" in told
        assert told.count("| 0 of ") == 4  # none failed
    monkeypatch.setenv("PATH", str(tmp_path))
    assert serving.main(words) == 2
    assert "apt-get install wrk" in capsys.readouterr().err
