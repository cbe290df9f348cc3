"""What is said of rows without a model, on a world whose swapped rows are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_margo.inspection.alignment import Verdict
from recbole_margo.studies.audit.row_evidence import RowEvidence, unrelated_probabilities

USERS, ITEMS, GROUPS, SWAPPED = 300, 300, 6, 90


@pytest.fixture(scope="module")
def planted() -> tuple[RowEvidence, np.ndarray]:
    """Return the evidence of text with swapped rows, of audio of noise, and which are swapped."""
    random = np.random.default_rng(0)
    group = random.integers(0, GROUPS, ITEMS)
    taste = random.integers(0, GROUPS, USERS)
    liked = 0.02 + 0.16 * (taste[:, None] == group)
    interactions = np.zeros((USERS + 1, ITEMS + 1))
    interactions[1:, 1:] = random.random((USERS, ITEMS)) < liked
    text = np.zeros((ITEMS + 1, 16))
    text[1:] = random.standard_normal((GROUPS, 16))[group] + 0.7 * random.standard_normal(
        (ITEMS, 16)
    )
    bad = np.zeros(ITEMS, dtype=bool)
    chosen = random.permutation(ITEMS)[:SWAPPED]
    bad[chosen] = True
    text[1 + chosen] = text[1 + np.roll(chosen, 1)]
    present = np.ones((ITEMS + 1, 2), dtype=bool)
    present[0] = False
    present[-3:, 0] = False
    found = RowEvidence.of(
        sp.csr_matrix(interactions),
        [text, random.standard_normal((ITEMS + 1, 16))],
        present,
        [f"i{n}" for n in range(ITEMS)],
        ("text", "audio"),
    )
    return found, bad


def test_the_list_begins_with_rows_that_were_swapped(
    planted: tuple[RowEvidence, np.ndarray],
) -> None:
    found, bad = planted
    order = found.order(0, 5)
    # A swap within the group changes nothing: one in six cannot be seen, chance is .3.
    assert bad[order[:50]].mean() >= 0.85
    assert (found.users[order] >= 5).all()
    assert not set(order) & {ITEMS - 1, ITEMS - 2, ITEMS - 3}


def test_modalities_are_told_apart(planted: tuple[RowEvidence, np.ndarray]) -> None:
    found, _ = planted
    assert [found.verdict(0), found.verdict(1)] == [Verdict.FITS, Verdict.NO_SIGN]
    assert found.fitting[0].estimate == pytest.approx(1 - SWAPPED / ITEMS * 5 / 6, abs=0.1)


def test_probabilities_are_those_of_swapped_rows(
    planted: tuple[RowEvidence, np.ndarray],
) -> None:
    found, bad = planted
    known = found.known[:, 0]
    said = found.unrelated[known, 0]
    assert said.mean() == pytest.approx(bad[known].mean(), abs=0.1)
    alarms = found.false_alarms(0, found.order(0, 1))
    assert (np.diff(alarms) >= 0).all()
    assert alarms[19] < 0.15 < alarms[-1]


def test_unrelated_probabilities_by_hand() -> None:
    # Two of six up to .25 make the density 4/3; from there on the last two, which would make it
    # rise, are levelled with what comes before: four on .75 of the line.
    p_values = np.array([0.125, 0.25, 0.5, 0.75, 1.0, 1.0])
    found = unrelated_probabilities(p_values, fitting=0.4)
    density = np.array([8 / 6, 8 / 6, 8 / 9, 8 / 9, 8 / 9, 8 / 9])
    assert found == pytest.approx(np.minimum(1, 0.6 / density))
    assert unrelated_probabilities(np.zeros(0), 0.5).shape == (0,)
    assert unrelated_probabilities(np.full(4, 0.5), 0.0) == pytest.approx(np.full(4, 0.5))


def test_the_first_fifty_texts_of_real_artists_are_swapped_ones(shared_data: Path) -> None:
    folder = shared_data / "lfm2k"
    table = np.loadtxt(folder / "lfm2k.inter", skiprows=1, dtype=np.int64, delimiter="\t")
    users, items = table[table[:, 3] == 0, :2].T + 1
    text = np.load(folder / "text_feat.npy").astype(np.float32)
    shape = (int(users.max()) + 1, len(text) + 1)
    interactions = sp.csr_matrix((np.ones(len(users)), (users, items)), shape=shape)
    chosen = np.random.default_rng(1).permutation(len(text))[: round(0.3 * len(text))]
    text[chosen] = text[np.roll(chosen, 1)]
    present = np.ones((len(text) + 1, 1), dtype=bool)
    present[0] = False
    rows = np.vstack([np.zeros((1, text.shape[1]), np.float32), text])
    names = [str(item) for item in range(len(text))]
    found = RowEvidence.of(interactions, [rows], present, names, ("text",))
    order = found.order(0, 5)
    assert np.isin(order[:50], chosen).mean() >= 0.85
    # What is estimated of the first two hundred is what is found.
    alarms = found.false_alarms(0, order)[199]
    assert alarms == pytest.approx(1 - np.isin(order[:200], chosen).mean(), abs=0.05)
