from __future__ import annotations

import math
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from twostroke.support import bits, kernels

from .helpers import bits_equal, drawn, drawn_more, packed_by_numpy


@pytest.fixture(scope="module", params=["kernels", "tensor operations"], autouse=True)
def ways(request):
    """Everything holds with the fused kernels and without them."""
    if request.param == "kernels":
        pytest.importorskip("numba", reason="the fused kernels need numba")
        yield
    else:
        with mock.patch.object(kernels, "_module", return_value=None):
            yield


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.half]
LAYOUTS = ["plain", "reversed strides", "every second", "channels last", "expanded", "offset"]


def laid_out(t: Tensor, layout: str) -> Tensor:
    """The same numbers as `t` (rows first, at least two dimensions) in another layout."""
    if layout == "reversed strides":
        order = list(range(t.ndim))[::-1]
        return t.permute(order).contiguous().permute(order)
    if layout == "every second":
        return t.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == "channels last" and t.ndim == 4:
        return t.contiguous(memory_format=torch.channels_last)
    if layout == "expanded":  # all rows are the first
        return t[:1].expand_as(t) if len(t) else t
    if layout == "offset":
        return torch.cat([t.new_zeros(3), t.flatten()])[3:].view(t.shape)
    return t


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    rows = draw(st.integers(0, 4))
    return (rows, *draw(st.lists(st.integers(0, 5), min_size=1, max_size=3)))


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    shape, seed = draw(shapes()), draw(st.integers(0, 2**20))
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < draw(
        st.sampled_from([0.0, 0.3, 0.5, 1.0])
    )
    return laid_out(mask, draw(st.sampled_from(LAYOUTS)))


def awkward(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Numbers among which infinite, undefined, tiny and signed zero ones lie."""
    draw = torch.Generator().manual_seed(seed)
    special = torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, 1e-40, -6e4], dtype=dtype)
    q = torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)
    which = torch.randint(0, 3 * len(special), shape, generator=draw)
    return torch.where(which < len(special), special[which % len(special)], q)


@drawn_more
@given(masks())
def test_packing_is_what_the_reference_and_numpy_give(mask: Tensor) -> None:
    packed = bits.pack(mask)
    assert packed.dtype == torch.uint8
    assert packed.shape == (len(mask), math.ceil(mask.shape[1:].numel() / 8))
    assert torch.equal(packed, bits.reference_pack(mask))
    assert torch.equal(packed, packed_by_numpy(mask))


@drawn_more
@given(masks(), st.sampled_from([torch.bool, torch.int64, torch.uint8, *DTYPES]))
def test_unpacking_undoes_packing(mask: Tensor, dtype: torch.dtype) -> None:
    units = mask.shape[1:].numel()
    got = bits.unpack(bits.pack(mask), (units,), dtype)
    assert got.dtype == dtype
    assert torch.equal(got, mask.reshape(len(mask), units).to(dtype))


@drawn_more
@given(masks())
def test_count_is_the_number_of_bits_that_are_on(mask: Tensor) -> None:
    assert bits.count(bits.pack(mask)) == int(mask.sum())


@pytest.mark.parametrize("shape", [(1, 2, 4), (1, 16), (2, 8), (3, 8, 2)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_packing_masks_of_whole_bytes_in_any_layout(shape: tuple[int, ...], layout: str) -> None:
    mask = laid_out(torch.rand(shape) < 0.5, layout)
    assert torch.equal(bits.pack(mask), bits.reference_pack(mask))


def test_unit_8j_plus_k_is_bit_k_of_byte_j() -> None:
    for unit in range(19):
        mask = torch.zeros(1, 19, dtype=torch.bool)
        mask[0, unit] = True
        expected = [0, 0, 0]
        expected[unit // 8] = 1 << (unit % 8)
        assert bits.pack(mask).tolist() == [expected]


def test_packed_bytes() -> None:
    assert [bits.packed_bytes(n) for n in (0, 1, 7, 8, 9, 16, 17)] == [0, 1, 1, 1, 2, 2, 3]


@drawn_more
@given(
    shapes(),
    st.integers(0, 2**20),
    st.sampled_from(DTYPES),
    st.sampled_from(LAYOUTS),
    st.sampled_from([0.0, 0.2, -0.3, 1.0]),
    st.booleans(),
)
def test_select_is_what_the_reference_gives(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype, layout: str, slope: float, shared: bool
) -> None:
    q = laid_out(awkward(shape, dtype, seed), layout)
    one = (1, *shape[1:]) if shared else shape
    mask = torch.rand(one, generator=torch.Generator().manual_seed(seed + 1)) < 0.5
    before = q.clone()
    got = bits.select(q, bits.pack(mask), slope=slope)
    assert bits_equal(got, bits.reference_select(q, mask, slope))
    assert bits_equal(q, before)


@drawn
@given(
    shapes(),
    st.integers(0, 2**20),
    st.sampled_from(DTYPES),
    st.sampled_from(LAYOUTS),
    st.booleans(),
    st.booleans(),
)
def test_gate_is_select_under_both_masks(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype, layout: str, shared: bool, closed: bool
) -> None:
    q = laid_out(awkward(shape, dtype, seed), layout)
    one = (1, *shape[1:]) if shared else shape
    mask = torch.rand(one, generator=torch.Generator().manual_seed(seed + 1)) < 0.5
    both = bits.relu_on(q, closed=closed) & mask
    z, packed = bits.gate(q, bits.pack(mask), closed=closed)
    assert bits_equal(z, bits.reference_select(q, both))
    assert torch.equal(packed, bits.reference_pack(both))


@drawn
@given(shapes(), st.integers(0, 2**20), st.sampled_from(DTYPES), st.sampled_from([0.0, 0.2]))
def test_select_into_q_itself(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype, slope: float
) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    for layout in ("plain", "reversed strides", "channels last", "offset"):
        q = laid_out(awkward(shape, dtype, seed), layout)
        expected = bits.reference_select(q, mask, slope)
        got = bits.select(q, bits.pack(mask), slope=slope, out=q)
        assert got is q
        assert bits_equal(q, expected)


def test_select_into_a_part_leaves_the_rest_alone() -> None:
    whole = torch.ones(2, 6, 4, 4)
    part = whole[:, 1:4]
    bits.select(part, bits.pack(torch.zeros(2, 3, 4, 4, dtype=torch.bool)), out=part)
    assert torch.equal(whole[:, 1:4], torch.zeros(2, 3, 4, 4))
    assert torch.equal(whole[:, [0, 4, 5]], torch.ones(2, 3, 4, 4))


@drawn
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.sampled_from([0.0, 0.1]))
def test_select_across_chunks(rows: int, bytes_: int, chunk: int, slope: float) -> None:
    q = awkward((rows, 8 * bytes_), torch.float32, rows)
    mask = torch.rand(q.shape, generator=torch.Generator().manual_seed(bytes_)) < 0.5
    with mock.patch.object(bits, "_CHUNK", chunk):
        got = bits.select(q, bits.pack(mask), slope=slope)
        bits.select(q_ := q.clone(), bits.pack(mask), slope=slope, out=q_)
    assert bits_equal(got, bits.reference_select(q, mask, slope))
    assert bits_equal(q_, got)


def test_select_across_the_real_chunk() -> None:
    units = 8 * bits._CHUNK + 64
    q, mask = torch.randn(2, units), torch.rand(2, units) < 0.5
    assert bits_equal(bits.select(q, bits.pack(mask)), bits.reference_select(q, mask))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [16, 13])
def test_infinite_and_undefined_values_under_a_zero_mask_stay_out(
    dtype: torch.dtype, units: int
) -> None:
    q = torch.full((2, units), math.inf, dtype=dtype)
    q[1] = math.nan
    off = bits.select(q, bits.pack(torch.zeros(2, units, dtype=torch.bool)))
    assert torch.equal(off, torch.zeros(2, units, dtype=dtype))
    on = bits.select(q, bits.pack(torch.ones(2, units, dtype=torch.bool)))
    assert bool(on[0].isinf().all())
    assert bool(on[1].isnan().all())


def test_select_keeps_the_layout() -> None:
    q = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    z = bits.select(q, bits.pack(q > 0))
    assert z.is_contiguous(memory_format=torch.channels_last)


def test_select_gives_the_strides_that_relu_gives() -> None:
    for shape in ((2, 8, 1, 1), (2, 1, 3, 3), (1, 8, 2, 2), (2, 8, 2, 2)):
        plain = torch.randn(shape)
        last = plain.to(memory_format=torch.channels_last)
        odd = plain.as_strided(
            shape,
            [shape[1] * 9 if n == 1 else s for n, s in zip(shape, plain.stride(), strict=True)],
        )
        for q in (plain, last, odd):
            assert bits.select(q, bits.pack(q > 0)).stride() == torch.relu(q).stride()


def test_tables_made_in_inference_mode_serve_autograd_later() -> None:
    bits._table.cache_clear()
    bits._popcounts.cache_clear()
    mask = torch.rand(2, 11) < 0.5
    with torch.inference_mode():
        packed = bits.pack(mask)
        bits.unpack(packed, (11,), torch.float32)
        bits.unpack(packed, (11,))
        bits.count(packed)
    weight = torch.randn(2, 11, requires_grad=True)
    table = bits._table(torch.device("cpu"), torch.float32)
    assert not table.is_inference()
    (weight[:, :8] * table[:2]).sum().backward()
    assert not bits._popcounts(torch.device("cpu")).is_inference()


@given(shapes(), st.integers(0, 2**20), st.sampled_from(LAYOUTS), st.integers(1, 3))
def test_pack_where_is_pack_of_the_comparison(
    shape: tuple[int, ...], seed: int, layout: str, chunk: int
) -> None:
    q = laid_out(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), layout)
    with mock.patch.object(bits, "_CHUNK", chunk):
        assert torch.equal(bits.pack_where(lambda part: part > 0, q), bits.pack(q > 0))
