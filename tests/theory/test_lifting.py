"""Lifting and its way back (eq. 18, 25–28)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostroke.errors import NotRankOneError, SettingsError
from twostroke.theory.lifting import lift, lifting, unlift, unlift_blocks, unvec, vec


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(0, 10**6))
def test_unlift_undoes_lift_up_to_scale(sizes, seed):
    vectors = [draw(n, seed=seed + k) for k, n in enumerate(sizes)]
    v = lift(*vectors)
    found = unlift(v, sizes)
    torch.testing.assert_close(lift(*found.factors), v, rtol=1e-10, atol=1e-10 * float(v.norm()))
    norms = torch.stack([f.norm() for f in found.factors])
    torch.testing.assert_close(norms, norms[:1].expand(len(sizes)), rtol=1e-10, atol=0)
    assert found.residual < 1e-12
    assert found.scale == pytest.approx(float(v.norm()))
    for factor in found.factors[:-1]:
        assert factor[factor.abs().argmax()] > 0


def test_lifting_function_of_eq_25():
    p, q = draw(3), draw(4, seed=1)
    assert torch.equal(lifting(torch.outer(p, q)), lift(p, q))
    V = draw(3, 4)
    assert lifting(V).norm() == pytest.approx(float(V.norm()))


def test_two_factors_are_the_best_ones():
    V = draw(5, 4)
    s = torch.linalg.svdvals(V)
    found = unlift(lifting(V), (5, 4), rtol=None)
    assert found.residual == pytest.approx(float(s[1:].norm() / s.norm()), rel=1e-10)


def test_what_is_no_product_is_named_by_its_residual():
    with pytest.raises(NotRankOneError, match=r"outside the nearest product"):
        unlift(draw(24), (2, 3, 4))
    found = unlift(draw(24), (2, 3, 4), rtol=None)
    assert 0 < found.residual < 1
    V = draw(3, 2, 4)
    with pytest.raises(NotRankOneError, match="block"):
        unlift_blocks(V)


def test_nearly_a_product():
    v = lift(draw(3), draw(4, seed=1), draw(5, seed=2))
    noise = draw(60, seed=3)
    found = unlift(v + 1e-6 * v.norm() * noise / noise.norm(), (3, 4, 5), rtol=1e-5)
    assert 1e-7 < found.residual <= 1e-6


def test_edges():
    zero = unlift(torch.zeros(6, dtype=torch.float64), (2, 3))
    assert zero.scale == 0
    assert all((f == 0).all() for f in zero.factors)
    with pytest.raises(SettingsError, match="sizes"):
        unlift(draw(7), (2, 3))
    with pytest.raises(SettingsError, match="undefined"):
        unlift(draw(6) * float("nan"), (2, 3))


def test_unvec_undoes_vec():
    for shape in ((3, 4), (3, 2, 2, 5)):
        W = draw(*shape)
        assert torch.equal(unvec(vec(W), shape), W)
