"""Lifting and its way back (eq. 18, 25–28)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostroke.errors import NotRankOneError
from twostroke.theory.lifting import lift, lifting, unlift_blocks, unvec, vec


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(*(st.integers(1, 6) for _ in range(3)), st.integers(0, 10**6))
def test_blocks_of_products_give_their_factors_up_to_scale(h, p, q, seed):
    X, Y = draw(h, p, seed=seed), draw(h, q, seed=seed + 1)
    V = X[:, :, None] * Y[:, None]
    left, right, residual = unlift_blocks(V)
    torch.testing.assert_close(left[:, :, None] * right[:, None], V, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(left.norm(dim=1), right.norm(dim=1), rtol=1e-10, atol=1e-12)
    assert (left.gather(1, left.abs().argmax(1, keepdim=True)) > 0).all()
    assert residual.max() < 1e-12


def test_lifting_function_of_eq_25():
    p, q = draw(3), draw(4, seed=1)
    assert torch.equal(lifting(torch.outer(p, q)), lift(p, q))
    V = draw(3, 4)
    assert lifting(V).norm() == pytest.approx(float(V.norm()))


def test_the_nearest_products_are_the_best_ones():
    V = draw(2, 5, 4)
    with pytest.raises(NotRankOneError, match=r"block . of 2 is not a product"):
        unlift_blocks(V)
    left, right, residual = unlift_blocks(V, rtol=None)
    s = torch.linalg.svdvals(V)
    torch.testing.assert_close(residual, s[:, 1:].norm(dim=1) / V.norm(), rtol=1e-10, atol=0)
    gap = (left[:, :, None] * right[:, None] - V).flatten(1).norm(dim=1)
    torch.testing.assert_close(gap, residual * V.norm(), rtol=1e-10, atol=0)


def test_unvec_undoes_vec():
    for shape in ((3, 4), (3, 2, 2, 5)):
        W = draw(*shape)
        assert torch.equal(unvec(vec(W), shape), W)
