"""Fused kernels for the CPU, where numba is installed (`pip install 'twostroke[fast]'`).

A mask is applied, and a pre-activation is packed, in one pass over memory. This is as fast as ReLU itself;
the chains of tensor operations in `bits`, which do the same without numba, spend most of their time on
unpacking. Floats are read as integers of their size: one kernel then serves every precision, and what is
off becomes exactly +0, also under infinity and NaN. Bits are always in the order of a contiguous tensor.
Channels-last values have kernels of their own, which turn the bits of eight pixels at a time.

Kernels are C functions of addresses: numba's own calls would make an array of each tensor first, which takes
longer than a small mask. They run without the interpreter's lock, on as many threads as PyTorch uses. They are
compiled at first use, about a second each, and kept on disk where numba's cache can be written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE, c_int64, c_ssize_t, c_void_p
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .layouts import INFINITIES, fusable, kernels_wanted

# units a thread must have for it to be worth waking
_SHARE = 1 << 18


@lru_cache(maxsize=1)
def _numba() -> Any:
    """Numba, or None where it is not installed or TWOSTROKE_KERNELS=0 switches kernels off."""
    if not kernels_wanted():
        return None
    try:
        import numba
    except ImportError:
        return None
    return numba


@lru_cache(maxsize=4)
def _compiled(size: int) -> SimpleNamespace:
    """The kernels for floats of so many bytes."""
    import numpy as np

    numba = _numba()
    carray, empty = numba.carray, np.empty
    integer = getattr(np, f"int{8 * size}")
    one = integer(1)
    kind = getattr(numba.types, f"int{8 * size}")
    floats, bytes_ = numba.types.CPointer(kind), numba.types.CPointer(numba.types.uint8)
    number, long = numba.types.intp, numba.types.int64
    kept: list[Any] = []

    def compiled(*kinds: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
        plain = {number: c_ssize_t, long: c_int64}

        def compile_(function: Callable[..., None]) -> Callable[..., None]:
            made = numba.cfunc(numba.types.void(*kinds), cache=True)(function)
            kept.append(made)  # the code lives as long
            return CFUNCTYPE(None, *(plain.get(kind, c_void_p) for kind in kinds))(made.address)

        return compile_

    # all work on the rows from `start` to `stop`; `stride` is bytes from row to row of `packed`

    @compiled(floats, bytes_, floats, number, number, number, number)
    def select(q_, packed, out_, start, stop, stride, units):  # type: ignore[no-untyped-def]
        q, out = carray(q_, (stop, units)), carray(out_, (stop, units))
        masks = carray(packed, (stop * stride + units,))
        whole = units // 8
        for i in range(start, stop):
            row = i * stride
            for j in range(whole):
                byte = one * masks[row + j]
                for k in range(8):
                    # minus one is all ones
                    out[i, 8 * j + k] = q[i, 8 * j + k] & -((byte >> k) & one)
            for u in range(8 * whole, units):
                out[i, u] = q[i, u] & -((one * masks[row + whole] >> (u - 8 * whole)) & one)

    # `integer(...)`: a sum of two such integers would be of 64 bits, and of those a processor compares fewer at
    # once. No helper for what stands there three times: numba would compile the kernel again in each process

    @compiled(floats, bytes_, number, number, number, number, long, long, long)
    def pack(q_, packed, start, stop, stride, units, shift_, edge_, off_):  # type: ignore[no-untyped-def]
        q, masks = carray(q_, (stop, units)), carray(packed, (stop, stride))
        shift, edge, off = integer(shift_), integer(edge_), integer(off_)
        whole = units // 8
        for i in range(start, stop):
            for j in range(whole):
                byte = integer(0)
                for k in range(8):
                    value = q[i, 8 * j + k]
                    byte |= integer((integer(value - shift) > edge) & (value != off)) << k
                masks[i, j] = byte
            if whole < stride:
                byte = integer(0)
                for k in range(units - 8 * whole):
                    value = q[i, 8 * whole + k]
                    byte |= integer((integer(value - shift) > edge) & (value != off)) << k
                masks[i, whole] = byte

    # channels last: q, out (rows, pixels, channels); unit `c * pixels + p` is pixel p of channel c.
    # `turned` (channels,) is room for the bits of eight pixels of each

    @compiled(floats, bytes_, floats, number, number, number, number, number)
    def select_last(q_, packed, out_, start, stop, stride, pixels, channels):  # type: ignore[no-untyped-def]
        q, out = carray(q_, (stop, pixels, channels)), carray(out_, (stop, pixels, channels))
        masks = carray(packed, (stop * stride + pixels * channels,))
        turned = empty(channels, integer)
        last = (pixels * channels + 7) // 8 - 1
        for i in range(start, stop):
            row = i * stride
            for first in range(0, pixels, 8):
                for c in range(channels):
                    u = c * pixels + first
                    j = u >> 3
                    pair = int(masks[row + j]) | int(masks[row + min(j + 1, last)]) << 8
                    turned[c] = one * ((pair >> (u & 7)) & 255)
                for k in range(min(8, pixels - first)):
                    for c in range(channels):
                        out[i, first + k, c] = q[i, first + k, c] & -((turned[c] >> k) & one)

    @compiled(floats, bytes_, number, number, number, number, number, long, long, long)
    def pack_last(q_, packed, start, stop, stride, pixels, channels, shift_, edge_, off_):  # type: ignore[no-untyped-def]
        # `packed` comes as zeros, for two channels may share a byte
        q, masks = carray(q_, (stop, pixels, channels)), carray(packed, (stop, stride))
        shift, edge, off = integer(shift_), integer(edge_), integer(off_)
        turned = empty(channels, integer)
        for i in range(start, stop):
            for first in range(0, pixels, 8):
                turned[:] = 0
                for k in range(min(8, pixels - first)):
                    for c in range(channels):
                        value = q[i, first + k, c]
                        on = (integer(value - shift) > edge) & (value != off)
                        turned[c] |= integer(on) << k
                for c in range(channels):
                    u = c * pixels + first
                    pair = int(turned[c]) << (u & 7)
                    masks[i, u >> 3] |= pair & 255
                    if pair >> 8:
                        masks[i, (u >> 3) + 1] |= pair >> 8

    return SimpleNamespace(
        select=select, pack=pack, select_last=select_last, pack_last=pack_last, kept=kept
    )


@lru_cache(maxsize=2)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="twostroke-kernels")


def split(units: int, rows: int, kernel: Callable[[slice], object]) -> None:
    """Run a kernel on shares of the rows, one of them in this thread."""
    shares = min(torch.get_num_threads(), rows, max(1, units * rows // _SHARE))
    if shares == 1:
        kernel(slice(0, rows))
        return
    edges = [rows * s // shares for s in range(shares + 1)]
    pool = _pool(os.getpid(), torch.get_num_threads())
    waiting = [pool.submit(kernel, slice(*edges[s : s + 2])) for s in range(1, shares)]
    kernel(slice(0, edges[1]))
    for future in waiting:
        future.result()


def serves(q: Tensor) -> bool:
    """Whether the kernels take this tensor: plain, contiguous or channels-last, floating, on the CPU."""
    return q.is_cpu and fusable(q) and _numba() is not None


def _extent(q: Tensor) -> tuple[int, ...]:
    """Units of a row; or pixels and channels, where `q` is channels-last."""
    units = q.numel() // len(q)
    return (units,) if q.is_contiguous() else (units // q.shape[1], q.shape[1])


def select(
    q: Tensor,  # (rows, ...) that `serves`
    packed: Tensor,  # (rows or 1, ⌈units / 8⌉) uint8
    out: Tensor,  # like q, strides included; may be q itself
) -> Tensor:
    """`q` where a bit is on, +0 where it is off; the same as `bits.reference_select`."""
    if packed.stride(1) != 1:
        packed = packed.contiguous()
    rows, extent = q.shape[0], _extent(q)
    kernels = _compiled(q.element_size())
    kernel = kernels.select if len(extent) == 1 else kernels.select_last
    stride = packed.stride(0) if packed.shape[0] == rows else 0
    places = q.data_ptr(), packed.data_ptr(), out.data_ptr()
    given = stride, *extent
    split(q.numel() // rows, rows, lambda part: kernel(*places, part.start, part.stop, *given))
    return out


def pack(
    q: Tensor,  # (rows, ...) that `serves`
    *,
    closed: bool,  # zeros are on
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """`bits.pack` of ReLU's own rule: on unless `q <= 0` (`q < 0` if closed), so on where undefined."""
    rows, extent, size = q.shape[0], _extent(q), q.element_size()
    units = q.numel() // rows
    packed = torch.zeros(rows, (units + 7) // 8, dtype=torch.uint8)
    kernels = _compiled(size)
    kernel = kernels.pack if len(extent) == 1 else kernels.pack_last
    # As integers floats stand in this order: -0, the negative ones up to -infinity, undefined ones, 0 and
    # the positive ones, undefined ones. `edge` is -infinity, and a shift by 1 sends -0 to the far end.
    least = -(1 << 8 * size - 1)
    edge = least + INFINITIES[q.dtype]
    rule = (1, edge - 1, least + 1) if closed else (0, edge, 0)
    places = q.data_ptr(), packed.data_ptr()
    given = packed.shape[1], *extent, *rule
    split(units, rows, lambda part: kernel(*places, part.start, part.stop, *given))
    return packed
