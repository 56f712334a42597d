import ctypes
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from twostroke.support import bits, kernels

from .helpers import bits_equal, drawn_more
from .test_bits import DTYPES, awkward

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

pytest.importorskip("numba", reason="the fused kernels need numba")


@drawn_more
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple),
    st.sampled_from(DTYPES),
    st.integers(0, 2**20),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 5),
)
def test_both_kernels_are_bit_for_bit_the_references(
    shape, dtype, seed, last, shared, inplace, threads
):
    q = awkward(shape, dtype, seed)
    if last and q.ndim in CHANNELS_LAST:
        q = q.to(memory_format=CHANNELS_LAST[q.ndim])
    rows = (1, *shape[1:]) if shared else shape
    mask = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.5
    assert kernels.serves(q)
    expected = bits.reference_select(q, mask.expand(shape))
    with (
        mock.patch.object(kernels, "_GRAIN", 1),
        mock.patch.object(torch, "get_num_threads", return_value=threads),
    ):
        for closed in (False, True):
            on = ~(q < 0) if closed else ~(q <= 0)
            assert torch.equal(kernels.pack(q, closed=closed), bits.reference_pack(on))
            own, wanted = kernels.pack(q, closed=closed), kernels.pack_mask(mask)
            assert torch.equal(wanted, bits.reference_pack(mask))
            z = torch.empty_like(q)
            both = kernels.gate(q, wanted, z, closed=closed)
            assert torch.equal(both, own & wanted)
            assert bits_equal(z, bits.reference_select(q, on & mask))
            assert z.stride() == q.stride()
            within = q.clone()
            assert torch.equal(kernels.gate(within, wanted, within, closed=closed), both)
            assert bits_equal(within, z)
        out = q if inplace else torch.empty_like(q)
        assert kernels.select(q, bits.pack(mask).expand(shape[0], -1), out) is out
    assert bits_equal(out, expected)
    assert out.stride() == q.stride()


@drawn_more
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.integers(0, 2**20),
    st.booleans(),
    st.integers(1, 5),
)
def test_energies_are_sums_of_squares(shape, dtype, seed, last, threads):
    q = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    if last and q.ndim == 4:
        q = q.to(memory_format=torch.channels_last)
    units = q[0].numel()
    assert kernels.adds_up(q) == (units % 8 == 0 and dtype != torch.float16)
    if not kernels.adds_up(q):
        return
    expected = torch.zeros_like(q[:1], dtype=torch.promote_types(dtype, torch.float32))
    for row in q.to(expected.dtype):
        expected += row * row
    with (
        mock.patch.object(kernels, "_GRAIN", 1),
        mock.patch.object(torch, "get_num_threads", return_value=threads),
    ):
        energy = kernels.energy(q)
    torch.testing.assert_close(energy, expected, rtol=1e-6, atol=0)
    assert energy.stride() == expected.stride()


def test_results_are_beside_the_tensor_whatever_the_default_device():
    q = torch.randn(3, 5, 7)
    with torch.device("meta"):
        packed = kernels.pack(q, closed=False)
        both = kernels.gate(q, packed, torch.empty_like(q), closed=False)
        masks = kernels.pack_mask(q > 0)
    assert torch.equal(packed, both)
    assert torch.equal(packed, masks)
    assert torch.equal(packed, bits.reference_pack(q > 0))


def test_a_small_kernel_on_a_thread_of_somebody_elses_team():
    openmp = kernels._module().OPENMP
    if openmp is None:
        pytest.skip("PyTorch's OpenMP functions have no names here")
    q = torch.randn(8, 5, 7)
    mask = torch.rand_like(q) < 0.5
    packed, found = bits.pack(mask), []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def region(_):
        found.append(kernels.select(q, packed, torch.empty_like(q)))

    openmp.GOMP_parallel(region, None, 2, 0)
    assert found
    for z in found:
        assert torch.equal(z, torch.where(mask, q, 0.0))


def test_without_openmp_one_thread_does_the_work(monkeypatch):
    monkeypatch.setattr(kernels, "_GRAIN", 1)
    monkeypatch.setattr(kernels._module(), "OPENMP", None)
    q = torch.randn(6, 5, 7)
    assert torch.equal(kernels.pack(q, closed=False), bits.reference_pack(q > 0))


def test_what_they_do_not_serve():
    q = torch.randn(2, 3, 4, 4)
    assert kernels.serves(q)
    assert kernels.serves(q.to(memory_format=torch.channels_last))
    assert not kernels.serves(q.transpose(2, 3))
    assert not kernels.serves(q.int())
    assert not kernels.serves(q[:0])
    assert not kernels.serves(torch.nn.Parameter(q))
    assert not kernels.serves(q.to("meta"))
    with mock.patch.object(kernels, "_module", return_value=None):
        assert not kernels.serves(q)


def test_a_variable_switches_them_off(monkeypatch):
    monkeypatch.setenv("TWOSTROKE_KERNELS", "0")
    assert kernels._module.__wrapped__() is None
    monkeypatch.delenv("TWOSTROKE_KERNELS")
    assert kernels._module.__wrapped__() is not None


def test_several_threads_at_once():
    q = torch.randn(8, 3, 50, 50)
    masks = [torch.rand_like(q) < 0.5 for _ in range(6)]

    def work(mask):
        return kernels.select(q, bits.pack(mask), torch.empty_like(q))

    with mock.patch.object(kernels, "_GRAIN", 1), ThreadPoolExecutor(6) as pool:
        for mask, z in zip(masks, pool.map(work, masks), strict=True):
            assert torch.equal(z, torch.where(mask, q, 0.0))
