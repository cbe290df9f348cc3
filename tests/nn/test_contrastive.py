from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from recbole_margo.nn import losses as contrastive
from recbole_margo.nn.losses import info_nce, log_sum_exp_of_products

ANCHORS, CANDIDATES, WIDTH = 11, 7, 5
# Cells of a block: one anchor, three anchors (the last block is short), all of them.
blocks = pytest.mark.parametrize("block_cells", [1, 3 * CANDIDATES, 10**6])


def vectors(dtype=torch.float64):
    anchors = torch.randn(ANCHORS, WIDTH, dtype=dtype, requires_grad=True)
    candidates = torch.randn(CANDIDATES, WIDTH, dtype=dtype, requires_grad=True)
    return anchors, candidates


def some_usable() -> torch.Tensor:
    return torch.tensor([True, False, True, True, False, True, True])


def some_skipped() -> torch.Tensor:
    return torch.tensor([0, -1, 1, 6, 3, -1, 2, 2, 4, 5, -1])


def allowed(usable, skip) -> np.ndarray:
    """Return which candidate counts for which anchor [N, J]."""
    allowed = np.ones((ANCHORS, CANDIDATES), dtype=bool)
    for n in range(ANCHORS):
        for j in range(CANDIDATES):
            if usable is not None and not usable[j]:
                allowed[n, j] = False
            if skip is not None and skip[n] == j:
                allowed[n, j] = False
    return allowed


def dense(anchors, candidates, open_pairs) -> torch.Tensor:
    """Return ln sum exp, anchor by anchor over its own candidates, for autograd."""
    return torch.stack(
        [
            torch.log(sum(torch.exp(a @ candidates[j]) for j in np.flatnonzero(row)))
            for a, row in zip(anchors, open_pairs, strict=True)
        ]
    )


@blocks
@pytest.mark.parametrize("with_skip", [True, False])
@pytest.mark.parametrize("with_usable", [True, False])
def test_values_and_gradients_equal_dense_autograd(
    monkeypatch, double_precision, with_usable, with_skip, block_cells
):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", block_cells)
    usable, skip = some_usable() if with_usable else None, some_skipped() if with_skip else None
    anchors, candidates = vectors()
    found = log_sum_exp_of_products(anchors, candidates, usable, skip)
    expected = dense(anchors, candidates, allowed(usable, skip))
    assert found.dtype == torch.float64
    assert_allclose(found.detach(), expected.detach(), rtol=1e-12)

    upstream = torch.randn(ANCHORS, dtype=torch.float64)
    wanted = (anchors, candidates)
    of_found = torch.autograd.grad((found * upstream).sum(), wanted)
    of_expected = torch.autograd.grad((expected * upstream).sum(), wanted)
    for one, other in zip(of_found, of_expected, strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@blocks
def test_gradients_equal_finite_differences(monkeypatch, double_precision, block_cells):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", block_cells)

    def function(anchors, candidates):
        return log_sum_exp_of_products(anchors, candidates, some_usable(), some_skipped())

    assert torch.autograd.gradcheck(function, vectors())


@blocks
def test_anchors_that_are_the_candidates_get_both_gradients(
    monkeypatch, double_precision, block_cells
):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", block_cells)
    table, _ = vectors()
    own = torch.arange(ANCHORS)
    found = log_sum_exp_of_products(table, table, skip=own)
    expected = dense(table, table, ~np.eye(ANCHORS, dtype=bool))
    assert_allclose(found.detach(), expected.detach(), rtol=1e-12)
    (one,) = torch.autograd.grad(found.sum(), table)
    (other,) = torch.autograd.grad(expected.sum(), table)
    assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@blocks
def test_single_precision_is_as_exact_as_it_can_be(monkeypatch, block_cells):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", block_cells)
    anchors, candidates = vectors(torch.float32)
    found = log_sum_exp_of_products(anchors, candidates, some_usable(), some_skipped())
    expected = dense(anchors.double(), candidates.double(), allowed(some_usable(), some_skipped()))
    assert found.dtype == torch.float32
    assert_allclose(found.detach(), expected.detach(), rtol=1e-5, atol=1e-6)


@blocks
def test_an_anchor_without_any_candidate_gives_minus_infinity_and_no_gradient(
    monkeypatch, block_cells
):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", block_cells)
    anchors, candidates = vectors(torch.float32)
    only = torch.arange(CANDIDATES) == 2
    result = log_sum_exp_of_products(anchors, candidates, only, some_skipped())
    alone = some_skipped() == 2
    assert alone.sum() == 2
    assert (result[alone] == -torch.inf).all()
    assert result[~alone].isfinite().all()
    torch.where(alone, 0.0, result).sum().backward()
    assert (anchors.grad[alone] == 0).all()
    assert_allclose(anchors.grad[~alone], candidates[2].detach().expand(9, -1), rtol=1e-6)
    assert_allclose(candidates.grad[2], anchors.detach()[~alone].sum(dim=0), rtol=1e-5, atol=1e-6)
    assert (candidates.grad[~only] == 0).all()


@blocks
def test_nothing_usable_gives_minus_infinity_and_zero_gradients(monkeypatch, block_cells):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", block_cells)
    anchors, candidates = vectors(torch.float32)
    usable = torch.zeros(CANDIDATES, dtype=torch.bool)
    result = log_sum_exp_of_products(anchors, candidates, usable)
    assert (result == -torch.inf).all()
    result.sum().backward()
    assert (anchors.grad == 0).all() and (candidates.grad == 0).all()


@blocks
@pytest.mark.parametrize("size", [1e3, 1e8])
def test_large_products_stay_finite(monkeypatch, block_cells, size):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", block_cells)
    anchors = torch.tensor([[size, 0.0], [-size, 0.0], [0.0, size]], requires_grad=True)
    candidates = torch.tensor([[size, 1.0], [-size, 0.0], [1.0, 0.0]], requires_grad=True)
    result = log_sum_exp_of_products(anchors, candidates)
    result.sum().backward()
    assert_allclose(result.detach(), [size**2, size**2, size], rtol=1e-6)
    assert_allclose(anchors.grad, [[size, 1.0], [-size, 0.0], [size, 1.0]], rtol=1e-6)
    assert_allclose(candidates.grad, [[size, size], [-size, 0.0], [0.0, 0.0]], rtol=1e-6)


def test_a_block_holds_no_more_than_its_cells(monkeypatch):
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", 2 * CANDIDATES)
    sizes, original = [], contrastive._similarities

    def watching(block, *others):
        sizes.append(len(block))
        return original(block, *others)

    monkeypatch.setattr(contrastive, "_similarities", watching)
    anchors, candidates = vectors(torch.float32)
    result = log_sum_exp_of_products(anchors, candidates)
    forward = list(sizes)
    result.sum().backward()
    assert forward == [2] * 5 + [1]
    assert sizes == 2 * forward


@pytest.mark.parametrize("with_usable", [True, False])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_info_nce_equals_the_formula(temperature, with_usable):
    anchors, candidates = (x.detach().numpy() for x in vectors())
    positives = np.random.default_rng(0).normal(size=(ANCHORS, WIDTH))
    usable = some_usable() if with_usable else None

    def cosine(x, y):
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y) / temperature

    expected = [
        -np.log(
            np.exp(cosine(a, p))
            / sum(
                np.exp(cosine(a, b))
                for j, b in enumerate(candidates)
                if usable is None or usable[j]
            )
        )
        for a, p in zip(anchors, positives, strict=True)
    ]
    tensors = (torch.from_numpy(x) for x in (anchors, positives, candidates))
    found = info_nce(*tensors, temperature, usable)
    assert found.dtype == torch.float32
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_info_nce_of_vectors_without_a_direction_is_finite():
    zeros = torch.zeros(3, WIDTH, requires_grad=True)
    loss = info_nce(zeros, zeros, zeros, 0.2)
    assert_allclose(loss.detach(), np.log(3), rtol=1e-6)
    loss.sum().backward()
    assert torch.isfinite(zeros.grad).all()
