from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recbole_margo.inspection.report import DatasetFigure, dataset_figure
from recbole_margo.report.figures import draw


@pytest.mark.parametrize("modalities", [0, 5])
def test_a_figure_is_drawn_whatever_the_number_of_modalities(
    tmp_path: Path, modalities: int
) -> None:
    generator = np.random.default_rng(0)
    names = [f"m{number}" for number in range(modalities)]
    content = DatasetFigure(
        title="Dataset tiny",
        user_degrees=generator.integers(0, 9, 50),
        item_degrees=generator.integers(0, 9, 30),
        norms={name: generator.random(30, np.float32) + 0.5 for name in names},
        coverage=dict.fromkeys(names, 0.5),
        recall={name: (0.2, [0.01, 0.02]) for name in names[:3]},
    )
    path = tmp_path / "figure"
    assert draw(path, lambda: dataset_figure(content))
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        # A figure of some height holds something besides white.
        assert image.height > 400
        assert np.asarray(image.convert("L")).std() > 5
