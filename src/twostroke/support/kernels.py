"""Fused kernels for the CPU, where numba is installed (`pip install 'twostroke[fast]'`).

A mask is applied, and a pre-activation is packed, in one pass over memory. This is as fast as ReLU itself;
the chains of tensor operations in `bits`, which do the same without numba, spend most of their time on
unpacking. Floats are read as integers of their size: one kernel then serves every precision, and what is
off becomes exactly +0, also under infinity and NaN. Bits are always in the order of a contiguous tensor.
Channels-last values have kernels of their own, which turn the bits of eight pixels at a time.

Kernels run without the interpreter's lock, on as many threads as PyTorch uses. They are compiled at first
use, about a second each, and kept on disk where numba's cache can be written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .layouts import INFINITIES, fusable, kernels_wanted

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
# units a thread must have for it to be worth waking
_SHARE = 1 << 18


@lru_cache(maxsize=1)
def _compiled() -> SimpleNamespace | None:
    """The kernels, or None without numba or where TWOSTROKE_KERNELS=0 switches them off."""
    if not kernels_wanted():
        return None
    try:
        from numba import njit
    except ImportError:
        return None

    @njit(nogil=True, cache=True)
    def select(q: Any, packed: Any, out: Any, one: Any) -> None:
        # q, out (rows, units) integers, packed (rows, bytes); one is 1 of q's type
        rows, units = q.shape
        whole = units // 8
        for i in range(rows):
            for j in range(whole):
                byte = one * packed[i, j]
                for k in range(8):
                    # minus one is all ones
                    out[i, 8 * j + k] = q[i, 8 * j + k] & -((byte >> k) & one)
            for u in range(8 * whole, units):
                out[i, u] = q[i, u] & -((one * packed[i, whole] >> (u - 8 * whole)) & one)

    @njit(nogil=True, cache=True)
    def pack(q: Any, packed: Any, least: Any, lone: Any, infinity: Any, top: Any) -> None:
        # on where q >= least, as integers order positive floats, where it is `lone`, or undefined
        rows, units = q.shape
        for i in range(rows):
            for j in range(packed.shape[1]):
                byte = 0
                for k in range(min(8, units - 8 * j)):
                    value = q[i, 8 * j + k]
                    byte |= ((value >= least) | (value == lone) | ((value & top) > infinity)) << k
                packed[i, j] = byte

    # channels last: q, out (rows, pixels, channels); unit `c * pixels + p` is pixel p of channel c.
    # `turned` (channels,) is room for the bits of eight pixels of each

    @njit(nogil=True, cache=True)
    def select_last(q: Any, packed: Any, out: Any, one: Any, turned: Any) -> None:
        rows, pixels, channels = q.shape
        last = packed.shape[1] - 1
        for i in range(rows):
            for start in range(0, pixels, 8):
                for c in range(channels):
                    u = c * pixels + start
                    j = u >> 3
                    pair = int(packed[i, j]) | int(packed[i, min(j + 1, last)]) << 8
                    turned[c] = one * ((pair >> (u & 7)) & 255)
                for k in range(min(8, pixels - start)):
                    for c in range(channels):
                        out[i, start + k, c] = q[i, start + k, c] & -((turned[c] >> k) & one)

    @njit(nogil=True, cache=True)
    def pack_last(
        q: Any, packed: Any, least: Any, lone: Any, infinity: Any, top: Any, turned: Any
    ) -> None:
        # `packed` comes as zeros, for two channels may share a byte
        rows, pixels, channels = q.shape
        for i in range(rows):
            for start in range(0, pixels, 8):
                turned[:] = 0
                for k in range(min(8, pixels - start)):
                    for c in range(channels):
                        value = q[i, start + k, c]
                        on = (value >= least) | (value == lone) | ((value & top) > infinity)
                        turned[c] |= on << k
                for c in range(channels):
                    u = c * pixels + start
                    pair = int(turned[c]) << (u & 7)
                    packed[i, u >> 3] |= pair & 255
                    if pair >> 8:
                        packed[i, (u >> 3) + 1] |= pair >> 8

    return SimpleNamespace(select=select, pack=pack, select_last=select_last, pack_last=pack_last)


@lru_cache(maxsize=2)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="twostroke-kernels")


def split(units: int, rows: int, kernel: Callable[[slice], None]) -> None:
    """Run a kernel on shares of the rows, one of them in this thread."""
    shares = min(torch.get_num_threads(), rows, max(1, units * rows // _SHARE))
    if shares == 1:
        kernel(slice(None))
        return
    edges = [rows * s // shares for s in range(shares + 1)]
    pool = _pool(os.getpid(), torch.get_num_threads())
    waiting = [pool.submit(kernel, slice(*edges[s : s + 2])) for s in range(1, shares)]
    kernel(slice(0, edges[1]))
    for future in waiting:
        future.result()


def serves(q: Tensor) -> bool:
    """Whether the kernels take this tensor: plain, contiguous or channels-last, floating, on the CPU."""
    return q.device.type == "cpu" and fusable(q) and _compiled() is not None


def _values(q: Tensor) -> Any:
    """Integers as they lie in memory: (rows, units), or (rows, pixels, channels) if channels-last."""
    q = q.detach().view(INTEGERS[q.element_size()])
    return (q.view(len(q), -1) if q.is_contiguous() else q.movedim(1, -1).flatten(1, -2)).numpy()


def _room(q: Tensor) -> Any:  # (channels,)
    return torch.empty(q.shape[1], dtype=INTEGERS[q.element_size()]).numpy()


def select(
    q: Tensor,  # (rows, ...) that `serves`
    packed: Tensor,  # (rows, ⌈units / 8⌉) uint8
    out: Tensor,  # like q, strides included; may be q itself
) -> Tensor:
    """`q` where a bit is on, +0 where it is off; the same as `bits.reference_select`."""
    kernels = _compiled()
    assert kernels is not None
    values, results = _values(q), _values(out)
    bytes_ = packed.numpy()  # of any stride: a byte is read once for eight units
    one = values.dtype.type(1)

    def run(part: slice) -> None:
        given = values[part], bytes_[part], results[part], one
        if values.ndim == 2:
            kernels.select(*given)
        else:
            kernels.select_last(*given, _room(q))

    split(values[0].size, len(values), run)
    return out


def pack(
    q: Tensor,  # (rows, ...) that `serves`
    *,
    closed: bool,  # zeros are on
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """`bits.pack` of ReLU's own rule: on unless `q <= 0` (`q < 0` if closed), so on where undefined."""
    kernels = _compiled()
    assert kernels is not None
    values = _values(q)
    units = values[0].size
    packed = torch.zeros(len(values), (units + 7) // 8, dtype=torch.uint8)
    bytes_ = packed.numpy()
    integer = values.dtype.type
    infinity = integer(INFINITIES[q.dtype])
    top = integer(torch.iinfo(INTEGERS[q.element_size()]).max)
    least = integer(0 if closed else 1)
    # -0 comes last among integers and is a zero nonetheless
    lone = integer(-int(top) - 1) if closed else least

    def run(part: slice) -> None:
        given = values[part], bytes_[part], least, lone, infinity, top
        if values.ndim == 2:
            kernels.pack(*given)
        else:
            kernels.pack_last(*given, _room(q))

    split(units, len(values), run)
    return packed
