"""The kernels for a GPU: on one where there is one, in Triton's interpreter on the CPU elsewhere."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import twostroke as ts
from twostroke.support import bits, gpu, kernels

from .helpers import assert_equal_runs, bits_equal, images, run, twice
from .test_bits import DTYPES, awkward

pytest.importorskip("triton", reason="these kernels are written in Triton")

HERE = "cuda" if torch.cuda.is_available() else "cpu"
drawn = settings(
    max_examples=25,
    deadline=None,
    # what the fixture puts in place is the same for every example
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def fresh_kernels() -> ModuleType:
    """The module loaded once more, apart from the one that the library uses."""
    spec = importlib.util.find_spec("twostroke.support.triton_kernels")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernels_run() -> Iterator[None]:
    """Without a GPU, the kernels take the CPU's tensors and are interpreted."""
    if HERE == "cuda":
        yield
        return
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        interpreted = fresh_kernels()
        with (
            mock.patch.object(gpu, "_compiled", return_value=interpreted),
            mock.patch.object(gpu, "_placed", lambda t: t.device.type == "cpu"),
            mock.patch.object(gpu, "_BYTES", 16),
            mock.patch.object(kernels, "_module", return_value=None),
        ):
            yield


# the last two sizes make whole bytes of a channel, or of an example, more likely
sides = st.one_of(st.integers(1, 5), st.sampled_from([8, 4]))


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = (draw(st.integers(1, 3)), *draw(st.lists(sides, min_size=1, max_size=4)))
    q = awkward(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 2**20))).to(HERE)
    form = {4: torch.channels_last, 5: torch.channels_last_3d}.get(q.ndim)
    if form and draw(st.booleans()):
        q = q.contiguous(memory_format=form)
    return q


def drawn_mask(q: Tensor, shared: bool) -> Tensor:
    shape = (1, *q.shape[1:]) if shared else q.shape
    return torch.rand(shape, generator=torch.Generator().manual_seed(q.numel())).to(HERE) < 0.5


@drawn
@given(tensors(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_select_is_bit_for_bit_the_reference(
    kernels_run: None, q: Tensor, shared: bool, inplace: bool, within: bool, wide: bool
) -> None:
    mask = drawn_mask(q, shared)
    expected = bits.reference_select(q, mask)
    packed = bits.pack(mask)
    if within:  # as a site's bytes stand in the rows of a support
        packed = torch.nn.functional.pad(packed, (3, 2), value=255)[:, 3:-2]
    out = q if inplace else torch.empty_like(q)
    assert gpu.selects(q, packed, out)
    with mock.patch.object(gpu, "_NARROW", 0 if wide else 2**31):
        assert bits.select(q, packed, out=out) is out
    assert bits_equal(out, expected)


@drawn
@given(tensors(), st.booleans(), st.booleans())
def test_pack_is_bit_for_bit_the_reference(
    kernels_run: None, q: Tensor, closed: bool, wide: bool
) -> None:
    assert gpu.serves(q)
    on = ~(q < 0) if closed else ~(q <= 0)
    with mock.patch.object(gpu, "_NARROW", 0 if wide else 2**31):
        packed = bits.pack_relu(q, closed=closed)
    assert packed.device == q.device
    assert torch.equal(packed, bits.reference_pack(on))


@drawn
@given(tensors(), st.sampled_from([0.2, -0.3, 1.0, 1 / 3]))
def test_a_slope_where_it_is_off(kernels_run: None, q: Tensor, slope: float) -> None:
    mask = drawn_mask(q, shared=False)
    if HERE == "cpu" and q.dtype == torch.bfloat16:
        # the interpreter rounds bfloat16 in a way of its own: here products need no rounding
        q, slope = q.nan_to_num(0.0).round(), 0.5
    got = bits.select(q, bits.pack(mask), slope=slope)
    assert bits_equal(got, bits.reference_select(q, mask, slope))


@pytest.mark.parametrize("shape", [(2, 96, 2, 8), (1, 64, 3, 4), (1, 3, 13, 12), (2, 300)])
def test_across_several_tiles(kernels_run: None, shape: tuple[int, ...]) -> None:
    q = awkward(shape, torch.float32, 1).to(HERE)
    mask = drawn_mask(q, shared=False)
    forms = [torch.contiguous_format, *([torch.channels_last] if len(shape) == 4 else [])]
    for form in forms:
        laid = q.contiguous(memory_format=form)
        z = bits.select(laid, bits.pack(mask))
        assert bits_equal(z, bits.reference_select(q, mask))
        assert z.is_contiguous(memory_format=form)
        assert torch.equal(bits.pack_relu(laid), bits.reference_pack(~(q <= 0)))


@pytest.mark.parametrize("last", [False, True])
def test_held_right_after_recording(kernels_run: None, last: bool) -> None:
    """In both directions, recorded bits and used bits by these kernels."""
    form = torch.channels_last if last else torch.contiguous_format
    net = twice().to(HERE, memory_format=form)
    x = images(2).to(HERE).contiguous(memory_format=form)
    live = run(net, x)
    with mock.patch.object(gpu, "pack", wraps=gpu.pack) as packs:
        support = ts.record(net, x)
    with mock.patch.object(gpu, "select", wraps=gpu.select) as selects, ts.hold(net, support):
        held = run(net, x)
    sites = len(support.sites)
    assert packs.call_count == sites
    assert selects.call_count == 2 * sites
    if HERE == "cpu":
        assert_equal_runs(live, held)
    else:  # where sums may be added up in another order
        assert torch.equal(live[0], held[0])
        for a, b in zip(live[1], held[1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    with mock.patch.object(gpu, "_compiled", return_value=None):
        assert ts.record(net, x) == support


def test_what_they_do_not_take(kernels_run: None) -> None:
    q = torch.randn(2, 3, 4, 4, device=HERE)
    last = q.contiguous(memory_format=torch.channels_last)
    packed = bits.pack(q > 0)

    class Sub(Tensor):
        pass

    assert gpu.serves(q)
    assert gpu.serves(last)
    assert gpu.selects(q, packed, torch.empty_like(q))
    assert not gpu.selects(q, packed, last)
    assert not gpu.selects(q, packed, q.half())
    assert not gpu.selects(q, packed.as_subclass(Sub), q)
    assert not gpu.serves(q.int())
    assert not gpu.serves(q[:0])
    assert not gpu.serves(q[0, 0, 0])
    assert not gpu.serves(q.transpose(1, 2))
    assert not gpu.serves(torch.nn.Parameter(q))
    assert not gpu.serves(q.to("meta"))
    seen = []
    torch.func.vmap(lambda v: seen.append(gpu.serves(v)) or v)(q)
    assert seen == [False]
    z = bits.select(q, packed, out=last.clone(memory_format=torch.preserve_format))
    assert torch.equal(z, torch.where(q > 0, q, 0.0))
    with mock.patch.object(gpu, "_compiled", return_value=None):
        assert not gpu.serves(q)


def test_the_cpu_is_none_of_their_business() -> None:
    assert not gpu.serves(torch.randn(2, 3))


def test_a_variable_switches_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOSTROKE_KERNELS", "0")
    assert gpu._compiled.__wrapped__() is None
    monkeypatch.delenv("TWOSTROKE_KERNELS")
    assert gpu._compiled.__wrapped__() is not None


def test_without_triton() -> None:
    # the library itself must not need it, nor fail where it is broken
    name = "twostroke.support.triton_kernels"
    support = sys.modules["twostroke.support"]
    with mock.patch.dict(sys.modules, {name: None}), mock.patch.object(support, "gpu", gpu):
        vars(support).pop("triton_kernels", None)
        assert gpu._compiled.__wrapped__() is None


FLAT = {"BYTES": 256}
TILES = {"GROUPS": 8, "CHANNELS": 64}
BUILDS = [
    ("select_flat", {"SLOPE": 0.0, "WHOLE": True, "WIDE": False, **FLAT}),
    ("select_flat", {"SLOPE": 0.1, "WHOLE": False, "WIDE": True, **FLAT}),
    ("select_last", {"SLOPE": 0.0, "WHOLE": True, "WIDE": False, **TILES}),
    ("select_last", {"SLOPE": 0.1, "WHOLE": False, "WIDE": True, **TILES}),
    ("pack_flat", {"CLOSED": False, "LAST": False, "WHOLE": True, "WIDE": False, **FLAT}),
    ("pack_flat", {"CLOSED": True, "LAST": True, "WHOLE": False, "WIDE": True, **FLAT}),
    ("pack_last", {"CLOSED": False, "WIDE": False, **TILES}),
    ("pack_last", {"CLOSED": True, "WIDE": True, **TILES}),
]


@pytest.mark.parametrize(("name", "constants"), BUILDS)
def test_they_compile_for_a_gpu_that_need_not_be_there(
    name: str, constants: dict[str, object], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to PTX, so that a mistake in types or layouts shows without a GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(fresh_kernels(), name)
    for dtype, infinity in (("bf16", 0x7F80), ("fp64", 0x7FF0000000000000)):
        given = constants | ({"INFINITY": infinity} if name.startswith("pack") else {})
        pointers = {"q": f"*{dtype}", "packed": "*u8", "out": f"*{dtype}"}
        signature = {
            arg: "constexpr" if arg in given else pointers.get(arg, "i32")
            for arg in kernel.arg_names
        }
        places = {(kernel.arg_names.index(arg),): value for arg, value in given.items()}
        # pointers and channels as a real call has them: divisible by 16
        known = {"q", "packed", "out", "units", "channels"} & set(kernel.arg_names)
        attrs = {(kernel.arg_names.index(a),): [["tt.divisibility", 16]] for a in known}
        source = ASTSource(kernel, signature, places, attrs)
        built = triton.compile(source, target=GPUTarget("cuda", 80, 32))
        assert "ld.global" in built.asm["ptx"]
        if given.get("WHOLE", True):  # 16 bytes at a time
            assert "ld.global.v" in built.asm["ptx"]
