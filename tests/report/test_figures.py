"""Figures are files with content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import image

from recbole_margo.report.weight_figures import weight_histograms


def test_weights_are_drawn_with_items_that_have_a_choice_only(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0.2, 0.8, 50).astype(np.float32)
    weights = np.stack([first, 1 - first], axis=1)
    present = np.ones((50, 2), dtype=bool)
    present[:10, 1] = False
    path = tmp_path / "weights.svg"
    weight_histograms(path, ("image", "text"), weights, present, "Title & more")
    drawn = path.read_text()
    # matplotlib writes each text as a comment beside its glyphs.
    assert f"image (mean {first[10:].mean():.2f}, n = 40)" in drawn
    assert f"text (mean {(1 - first[10:]).mean():.2f}, n = 40)" in drawn


def test_no_choice_at_all_is_drawn_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.png"
    ones = np.ones((5, 1), dtype=np.float32)
    weight_histograms(path, ("text",), ones, ones.astype(bool), "One modality")
    assert image.imread(path).std() > 0.01
