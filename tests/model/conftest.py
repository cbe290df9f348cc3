from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole's trainer writes its TensorBoard files into the working folder."""
    monkeypatch.chdir(tmp_path)
