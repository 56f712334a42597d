"""Weights of a few bits: levels, scales, and codes as bits."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from twostroke.errors import SettingsError
from twostroke.guidance.students.levels import (
    check_bits,
    from_codes,
    multiples,
    pack_codes,
    reference_multiples,
    reference_pack,
    to_codes,
    unpack_codes,
)

BITS = st.sampled_from([1, 2, 4])


@st.composite
def weights(draw):
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    torch.manual_seed(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["normal", "whole", "heavy"]))
    w = torch.randn(shape, dtype=torch.float64)
    return {"normal": w, "whole": (2 * w).round(), "heavy": w**3}[kind]


def few(weight, bits):
    odd, scale = multiples(weight, bits)
    return odd * scale


@given(weights(), BITS)
def test_multiples_are_those_of_the_nearest_levels(weight, bits):
    odd, scale = multiples(weight, bits)
    assert odd.shape == weight.shape
    assert scale.shape == (len(weight), *[1] * (weight.ndim - 1))
    best = reference_multiples(weight, scale, bits)
    # a weight halfway between two levels may go to either
    torch.testing.assert_close(
        (weight - odd * scale).abs(), (weight - best * scale).abs(), rtol=0, atol=1e-12
    )


@given(weights(), BITS)
def test_codes_are_the_multiples_counted_from_zero(weight, bits):
    odd, _ = multiples(weight, bits)
    codes = to_codes(odd, bits)
    known = list(range(1 - 2**bits, 2**bits, 2))
    assert codes.flatten().tolist() == [known.index(int(k)) for k in odd.flatten()]
    assert torch.equal(from_codes(codes, bits, odd.dtype), odd)


@given(weights())
def test_one_bit_is_the_sign_times_the_mean_magnitude(weight):
    mean = weight.abs().flatten(1).mean(1).view(-1, *[1] * (weight.ndim - 1))
    assert torch.equal(few(weight, 1), torch.copysign(mean, weight))


@pytest.mark.parametrize(("bits", "near"), [(1, 1.001), (2, 1.04), (4, 1.5)])
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform"])
def test_scales_come_near_the_least_squared_error(kind, bits, near):
    shape = (16, 900)
    weight = {
        "normal": torch.randn(shape),
        "laplace": torch.distributions.Laplace(0.0, 1.0).sample(shape),
        "uniform": 2 * torch.rand(shape) - 1,
    }[kind].double()
    error = (weight - few(weight, bits)).square().sum(1)
    best = torch.full_like(error, torch.inf)
    top = weight.abs().amax(1, keepdim=True)
    for part in torch.linspace(0.02, 1, 200):
        s = part * top
        levels = s * torch.arange(1 - 2**bits, 2**bits, 2)
        each = (weight[:, :, None] - levels[:, None, :]).square().amin(2).sum(1)
        best = torch.minimum(best, each)
    assert error.sum() <= near * best.sum()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_channel_of_zeros_stays_zero(bits):
    weight = torch.stack([torch.zeros(5), torch.randn(5)])
    found = few(weight, bits)
    assert not found[0].any()
    assert found[1].all()


@given(st.lists(st.integers(0, 15), max_size=40), BITS)
def test_pack_and_unpack_against_the_reference(numbers, bits):
    codes = torch.tensor([n % (1 << bits) for n in numbers], dtype=torch.uint8)
    packed = pack_codes(codes, bits)
    assert torch.equal(packed, reference_pack(codes, bits))
    assert len(packed) == (len(codes) * bits + 7) // 8
    assert torch.equal(unpack_codes(packed, len(codes), bits), codes)


@pytest.mark.parametrize("bits", [0, 3, 8, True, "1", None])
def test_other_bits_are_refused(bits):
    with pytest.raises(SettingsError, match="1, 2 or 4"):
        check_bits(bits)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_other_layouts_give_the_same(bits):
    weight = torch.randn(6, 5, 3, 3)
    known = few(weight, bits)
    assert torch.equal(few(weight.contiguous(memory_format=torch.channels_last), bits), known)
    flat = torch.randn(5, 7)
    assert torch.equal(few(flat.t().contiguous().t(), bits), few(flat, bits))
