"""Fused kernels for the pull on a CPU, where numba is installed.

Each reads the pre-activations once, and the packed bits as they are: a row's sides are unpacked into a
buffer that stays in cache. As in `support.kernels`, bits are in the order of a contiguous tensor, whatever
the memory format of the values.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..support import kernels as base

# sums may be split among the lanes of a processor; everything else is as written
_FAST = {"reassoc", "contract"}
_WORK = 4  # a unit takes about so many times as long as one of `select`


@lru_cache(maxsize=1)
def _compiled() -> SimpleNamespace | None:
    if base._compiled() is None:
        return None
    import numpy as np
    from numba import njit

    @njit(nogil=True, cache=True, fastmath=_FAST)
    def moments(q: Any, sums: Any) -> None:
        # q (rows, units), sums (rows, 2) float64
        for i in range(q.shape[0]):
            total, squares = 0.0, 0.0
            for u in range(q.shape[1]):
                value = np.float64(q[i, u])
                total += value
                squares += value * value
            sums[i, 0], sums[i, 1] = total, squares

    @njit(nogil=True, cache=True)
    def unpack(packed: Any, sides: Any, pixels: Any) -> None:
        # packed (bytes,), sides (units,) int8; with `pixels` the bit of unit `c * pixels + p` is put to
        # place `p * channels + c`, as it lies in a channels-last tensor
        units = sides.size
        if pixels == 0:
            for j in range(units // 8):
                byte = packed[j]
                for k in range(8):
                    sides[8 * j + k] = 2 * ((byte >> k) & 1) - 1
            for u in range(units - units % 8, units):
                sides[u] = 2 * ((packed[u >> 3] >> (u & 7)) & 1) - 1
        else:
            channels = units // pixels
            for c in range(channels):
                for p in range(pixels):
                    u = c * pixels + p
                    sides[p * channels + c] = 2 * ((packed[u >> 3] >> (u & 7)) & 1) - 1

    @njit(nogil=True, cache=True, fastmath=_FAST)
    def value(q: Any, packed: Any, sides: Any, pixels: Any, scale: Any, sums: Any) -> None:
        # scale of q's type, sums (rows,) float64
        zero, one = scale - scale, scale / scale
        for i in range(q.shape[0]):
            unpack(packed[i], sides, pixels)
            total = 0.0
            for u in range(q.shape[1]):
                short = max(one - sides[u] * scale * q[i, u], zero)
                total += short * short
            sums[i] = total

    @njit(nogil=True, cache=True, fastmath=_FAST)
    def slope(
        q: Any,
        packed: Any,
        sides: Any,
        pixels: Any,
        scale: Any,
        factor: Any,
        out: Any,
    ) -> None:
        zero, one = scale - scale, scale / scale
        for i in range(q.shape[0]):
            unpack(packed[i], sides, pixels)
            for u in range(q.shape[1]):
                short = max(one - sides[u] * scale * q[i, u], zero)
                out[i, u] = short * (sides[u] * factor)

    return SimpleNamespace(moments=moments, value=value, slope=slope)


def serves(q: Tensor) -> bool:
    """Whether the kernels take this tensor: float32 or float64, plain, on the CPU."""
    return q.dtype in (torch.float32, torch.float64) and base.serves(q) and _compiled() is not None


def _values(q: Tensor) -> Any:
    """(rows, units) as they lie in memory."""
    q = q.detach()
    return (q if q.is_contiguous() else q.movedim(1, -1)).reshape(len(q), -1).numpy()


def _pixels(q: Tensor) -> int:
    """Places of a channel where `q` is channels-last, else 0."""
    return 0 if q.is_contiguous() else q.shape[2:].numel()


def _room(q: Tensor) -> Any:
    return torch.empty(q.shape[1:].numel(), dtype=torch.int8).numpy()


def scale(q: Tensor, margin: float, least: float) -> float:
    """1 / (margin · √(variance + least)) of all units."""
    kernels = _compiled()
    assert kernels is not None
    values = _values(q)
    sums = torch.empty(len(q), 2, dtype=torch.float64)
    into = sums.numpy()
    base.split(
        _WORK * values.shape[1], len(q), lambda part: kernels.moments(values[part], into[part])
    )
    mean, square = sums.sum(0) / q.numel()
    return 1 / (margin * math.sqrt(max(float(square - mean * mean), 0.0) + least))


def value(q: Tensor, packed: Tensor, scale: float) -> float:
    """Mean over units of max(0, 1 - s · scale · q)²."""
    kernels = _compiled()
    assert kernels is not None
    values, bytes_ = _values(q), packed.numpy()
    number = values.dtype.type
    sums = torch.empty(len(q), dtype=torch.float64)
    into = sums.numpy()

    def run(part: slice) -> None:
        given = values[part], bytes_[part], _room(q), _pixels(q)
        kernels.value(*given, number(scale), into[part])

    base.split(_WORK * values.shape[1], len(q), run)
    return float(sums.sum()) / q.numel()


def slope(q: Tensor, packed: Tensor, scale: float, grad: Tensor) -> Tensor:
    """`-2 · scale · grad / units · s · max(0, 1 - s · scale · q)`, laid out as `q`."""
    kernels = _compiled()
    assert kernels is not None
    out = torch.empty_like(q)
    values, bytes_, results = _values(q), packed.numpy(), _values(out)
    number = values.dtype.type
    factor = -2.0 * scale * float(grad) / q.numel()

    def run(part: slice) -> None:
        given = values[part], bytes_[part], _room(q), _pixels(q)
        kernels.slope(*given, number(scale), number(factor), results[part])

    base.split(_WORK * values.shape[1], len(q), run)
    return out
