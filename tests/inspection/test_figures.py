from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from PIL import Image

from recbole_margo.inspection.dataset_inspection import DatasetInspection
from recbole_margo.inspection.report import dataset_figure
from recbole_margo.inspection.statistics import (
    InteractionStatistics,
    ModalityStatistics,
    degrees,
    row_norms,
)
from recbole_margo.report.figures import draw


@pytest.mark.parametrize("modalities", [0, 5])
def test_a_figure_is_drawn_whatever_the_number_of_modalities(
    tmp_path: Path, modalities: int
) -> None:
    generator = np.random.default_rng(0)
    drawn = generator.random((3, 51, 31)) < np.array([0.2, 0.05, 0.05]).reshape(3, 1, 1)
    drawn[:, 0] = drawn[:, :, 0] = False  # PAD
    train, valid, test = (sp.csr_matrix(split, dtype=np.int64) for split in drawn)
    tokens, order = np.arange(31).astype(str), np.arange(1, 16)
    features = torch.from_numpy(generator.random((31, 4), np.float32))
    measured = {
        f"m{number}": ModalityStatistics.of(
            features, order, tokens, train, valid if number < 3 else sp.csr_matrix(valid.shape)
        )
        for number in range(modalities)
    }
    assert sum(one.alignment is None for one in measured.values()) == max(modalities - 3, 0)
    found = DatasetInspection(
        "tiny",
        InteractionStatistics.of({"train": train, "valid": valid, "test": test}),
        measured,
        degrees(train),
        {name: row_norms(features[1:16]) for name in measured},
    )
    path = tmp_path / "figure"
    assert draw(path, lambda: dataset_figure(found))
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        # A figure of some height holds something besides white.
        assert image.height > 400
        assert np.asarray(image.convert("L")).std() > 5
