"""Fused kernels for the CPU, where numba is installed (`pip install 'twostroke[fast]'`).

A mask is applied, and a pre-activation is packed, in one pass over memory. This is as fast as ReLU itself;
the chains of tensor operations in `bits`, which do the same without numba, spend most of their time on
unpacking. Bits are always in the order of a contiguous tensor; channels-last values have kernels of their
own, which turn the bits of eight pixels at a time. The kernels are in `numba_kernels`, and run on as many
threads as PyTorch uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int64
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .layouts import INFINITIES, fusable, kernels_wanted, plain

# as PyTorch has it: each of its threads gets so many units at least
_GRAIN = 1 << 15
# units that a thread of our own must have for it to be worth waking
_SHARE = 1 << 18


@lru_cache(maxsize=1)
def _module() -> Any:
    """The kernels' module, or None without numba or where TWOSTROKE_KERNELS=0 switches them off."""
    if not kernels_wanted():
        return None
    try:
        from . import numba_kernels
    except ImportError:
        return None
    return numba_kernels


@lru_cache(maxsize=2)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="twostroke-kernels")


def split(units: int, rows: int, kernel: Callable[[slice], object]) -> None:
    """Run a kernel on shares of the rows, one of them in this thread; `units` are those of a row."""
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
    return q.is_cpu and fusable(q) and _module() is not None


def _run(kernel: Any, shares: int, q: Tensor, *given: int) -> None:
    """Run a kernel on `q`, on several of PyTorch's threads where there is work for them.

    `shares` is how many parts there are to share, of which each thread takes some in a row. As PyTorch's own
    operations of this size, it would wait for ever in a process forked from one that has used threads.
    """
    kernel, openmp = kernel(), _module().OPENMP
    every = torch.get_num_threads()
    threads = max(1, min(every, shares, q.numel() // _GRAIN)) if openmp is not None else 1
    numbers = (c_int64 * (3 + len(given)))(shares, threads, q.data_ptr(), *given)
    if threads > 1:
        # a team of another size than PyTorch's would end its threads, and begin them again at its next turn
        openmp.GOMP_parallel(kernel, numbers, every, 0)
    else:
        kernel(numbers)


def _extent(q: Tensor) -> tuple[int, ...]:
    """Units of a row; or pixels and channels, where `q` is channels-last."""
    units = q.numel() // len(q)
    return (units,) if q.is_contiguous() else (units // q.shape[1], q.shape[1])


def _stride(q: Tensor, packed: Tensor) -> int:
    """Bytes from a row's masks to the next one's; 0 where all rows share one."""
    return packed.stride(0) if packed.shape[0] == q.shape[0] else 0


def _rule(q: Tensor, closed: bool) -> tuple[int, int, int]:
    """What ReLU's own rule compares integers with: on where `q - shift > edge` and `q != off`.

    As integers floats stand in this order: -0, the negative ones up to -infinity, undefined ones, 0 and the
    positive ones, undefined ones. `edge` is -infinity, and a shift by 1 sends -0 to the far end.
    """
    least = -(1 << 8 * q.element_size() - 1)
    edge = least + INFINITIES[q.dtype]
    return (1, edge - 1, least + 1) if closed else (0, edge, 0)


def _room_for_bits(q: Tensor) -> Tensor:
    # channels of a channels-last tensor may share a byte, to which each adds its bits
    room = torch.empty if q.is_contiguous() else torch.zeros
    return room(len(q), (q.numel() // len(q) + 7) // 8, dtype=torch.uint8, device="cpu")


def select(
    q: Tensor,  # (rows, ...) that `serves`
    packed: Tensor,  # (rows or 1, ⌈units / 8⌉) uint8
    out: Tensor,  # like q, strides included; may be q itself
) -> Tensor:
    """`q` where a bit is on, +0 where it is off; the same as `bits.reference_select`."""
    if packed.stride(1) != 1:
        packed = packed.contiguous()
    kernels, extent = _module().compiled(q.element_size()), _extent(q)
    kernel = kernels.select if len(extent) == 1 else kernels.select_last
    _run(kernel, len(q), q, packed.data_ptr(), out.data_ptr(), _stride(q, packed), *extent)
    return out


def pack(
    q: Tensor,  # (rows, ...) that `serves`
    *,
    closed: bool,  # zeros are on
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """`bits.pack` of ReLU's own rule: on unless `q <= 0` (`q < 0` if closed), so on where undefined."""
    kernels, extent = _module().compiled(q.element_size()), _extent(q)
    kernel = kernels.pack if len(extent) == 1 else kernels.pack_last
    packed = _room_for_bits(q)
    _run(kernel, len(q), q, packed.data_ptr(), packed.shape[1], *extent, *_rule(q, closed))
    return packed


def gate(
    q: Tensor,  # (rows, ...) that `serves`
    packed: Tensor,  # (rows or 1, ⌈units / 8⌉) uint8
    out: Tensor,  # like q, strides included; may be q itself
    *,
    closed: bool,  # zeros are on
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """`out = select(q, both, out)`, of `both = pack(q) & packed`, which it returns; reads `q` once."""
    if packed.stride(1) != 1:
        packed = packed.contiguous()
    kernels, extent = _module().compiled(q.element_size()), _extent(q)
    kernel = kernels.gate if len(extent) == 1 else kernels.gate_last
    both = _room_for_bits(q)
    places = packed.data_ptr(), out.data_ptr(), both.data_ptr()
    sizes = _stride(q, packed), both.shape[1], *extent
    _run(kernel, len(q), q, *places, *sizes, *_rule(q, closed))
    return both


def packs(mask: Tensor) -> bool:
    """Whether `pack_mask` takes this tensor: plain, contiguous, truth values on the CPU."""
    fit = mask.is_cpu and mask.dtype == torch.bool and mask.is_contiguous() and mask.numel() > 0
    return fit and plain(mask) and _module() is not None


def pack_mask(
    mask: Tensor,  # (rows, ...) that it `packs`
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """The same as `bits.reference_pack`."""
    rows, units = len(mask), mask.numel() // len(mask)
    packed = torch.empty(rows, (units + 7) // 8, dtype=torch.uint8, device="cpu")
    kernel = _module().pack_mask()
    _run(kernel, rows, mask, packed.data_ptr(), units, packed.shape[1])
    return packed


def adds_up(q: Tensor) -> bool:
    """Whether `energy` takes this tensor."""
    return serves(q) and q.dtype != torch.float16 and q.numel() // len(q) % 8 == 0


def energy(
    q: Tensor,  # (rows, ...) that it `adds_up`
) -> Tensor:  # (1, ...) in single precision at least, laid out as q
    """`Σ q²` over the rows, one after another; each square is rounded before it is added."""
    sums = torch.empty_like(q[:1], dtype=torch.promote_types(q.dtype, torch.float32))
    kernel = _module().energy(str(q.dtype).removeprefix("torch."))
    _run(kernel, sums.numel() // 8, q, sums.data_ptr(), len(q))
    return sums
