from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from twostroke.guidance import kernels
from twostroke.guidance.pull import pull, reference_pull
from twostroke.support import bits

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
shapes = st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple)


def drawn(shape, dtype, seed, last=False):
    draw = torch.Generator().manual_seed(seed)
    q = 3 * torch.randn(shape, generator=draw, dtype=dtype) + 0.5
    mask = torch.rand(shape, generator=draw) < 0.4
    if last and q.ndim in LAST:
        q = q.contiguous(memory_format=LAST[q.ndim])
    return q.requires_grad_(), mask


@settings(deadline=None)
@given(
    shapes,
    st.integers(0, 2**20),
    st.booleans(),
    st.floats(0.1, 3),
    st.booleans(),
    st.integers(1, 4),
)
def test_value_and_gradient_are_the_reference_s(shape, seed, last, margin, fused, threads):
    q, mask = drawn(shape, torch.float64, seed, last)
    with (
        mock.patch.object(kernels, "serves", kernels.serves if fused else lambda q: False),
        mock.patch.object(kernels.base, "_SHARE", 1),
        mock.patch.object(torch, "get_num_threads", return_value=threads),
    ):
        value = pull(q, bits.pack(mask), margin)
        (slope,) = torch.autograd.grad(2.5 * value, q)
    expected = reference_pull(q, mask, margin)
    (gradient,) = torch.autograd.grad(2.5 * expected, q)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(slope, gradient, rtol=1e-9, atol=1e-12)
    if fused:
        assert slope.stride() == q.stride()


def test_the_gradient_is_that_of_a_fixed_scale():
    q, mask = drawn((3, 4, 5), torch.float64, 1)
    sigma = (q.detach().var(correction=0)).sqrt()
    side = torch.where(mask, 1.0, -1.0)

    def fixed(q):
        return (1 - side * q / (0.5 * sigma)).clamp(min=0).square().mean()

    assert torch.autograd.gradcheck(fixed, q)
    expected, found = (
        torch.autograd.grad(f, q)[0] for f in (fixed(q), pull(q, bits.pack(mask), 0.5))
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_counted_in_single(dtype, fused):
    q, mask = drawn((4, 3, 5, 5), dtype, 2)
    with mock.patch.object(kernels, "serves", kernels.serves if fused else lambda q: False):
        value = pull(q, bits.pack(mask))
        value.backward()
    wide = q.detach().float().requires_grad_()
    expected = reference_pull(wide, mask)
    expected.backward()
    assert value.dtype == torch.float32
    assert q.grad.dtype == dtype
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(q.grad, wide.grad.to(dtype), rtol=1e-2, atol=1e-6)


def test_it_is_zero_where_every_side_is_right_by_a_margin_and_scale_is_free():
    mask = torch.tensor([[True, False, True, False]])
    q = torch.where(mask, 1.0, -1.0)
    assert pull(q, bits.pack(mask)) == 0
    away, _ = drawn((4, 7), torch.float64, 3)
    packed = bits.pack(torch.rand(4, 7) < 0.5)
    torch.testing.assert_close(pull(away, packed), pull(100 * away, packed))
    assert pull(away, packed) > 0


def test_a_site_whose_units_are_all_equal_gives_numbers():
    q = torch.zeros(2, 8, requires_grad=True)
    value = pull(q, bits.pack(torch.ones(2, 8, dtype=torch.bool)))
    value.backward()
    assert value == 1
    assert q.grad.isfinite().all()
