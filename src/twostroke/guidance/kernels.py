"""Fused kernels for the pull on a CPU, where numba is installed.

Each reads the pre-activations once, and the packed bits as they are: a row's sides are unpacked into a
buffer that stays in cache. As in `support.kernels`, bits are in the order of a contiguous tensor, whatever
the memory format of the values.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..support import kernels as base


@lru_cache(maxsize=1)
def _module() -> Any:
    """The kernels' module, or None without numba or where TWOSTROKE_KERNELS=0 switches them off."""
    if base._module() is None:
        return None
    from . import numba_kernels

    return numba_kernels


def serves(q: Tensor) -> bool:
    """Whether the kernels take this tensor: float32 or float64, plain, on the CPU."""
    return q.dtype in (torch.float32, torch.float64) and base.serves(q) and _module() is not None


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
    kernels = _module()
    values = _values(q)
    sums = torch.empty(len(q), 2, dtype=torch.float64)
    into = sums.numpy()
    base.split(values.shape[1], len(q), lambda part: kernels.moments(values[part], into[part]))
    mean, square = sums.sum(0) / q.numel()
    return 1 / (margin * math.sqrt(max(float(square - mean * mean), 0.0) + least))


def value(q: Tensor, packed: Tensor, scale: float) -> float:
    """Mean over units of max(0, 1 - s · scale · q)²."""
    kernels = _module()
    values, bytes_ = _values(q), packed.numpy()
    number = values.dtype.type
    sums = torch.empty(len(q), dtype=torch.float64)
    into = sums.numpy()

    def run(part: slice) -> None:
        given = values[part], bytes_[part], _room(q), _pixels(q)
        kernels.value(*given, number(scale), into[part])

    base.split(values.shape[1], len(q), run)
    return float(sums.sum()) / q.numel()


def slope(q: Tensor, packed: Tensor, scale: float, grad: Tensor) -> Tensor:
    """`-2 · scale · grad / units · s · max(0, 1 - s · scale · q)`, laid out as `q`."""
    kernels = _module()
    out = torch.empty_like(q)
    values, bytes_, results = _values(q), packed.numpy(), _values(out)
    number = values.dtype.type
    factor = -2.0 * scale * float(grad) / q.numel()

    def run(part: slice) -> None:
        given = values[part], bytes_[part], _room(q), _pixels(q)
        kernels.slope(*given, number(scale), number(factor), results[part])

    base.split(values.shape[1], len(q), run)
    return out
