"""Hamming distances of packed bits on a CPU by popcount, where numba is installed (`popcount`)."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from torch import Tensor

from ..support.kernels import split
from ..support.layouts import kernels_wanted

_TILE = 1 << 15  # words of a tile: 256 KiB


@lru_cache(maxsize=1)
def compiled() -> ModuleType | None:
    """The kernels, or None without numba or where TWOSTROKE_KERNELS=0 switches them off."""
    if not kernels_wanted():
        return None
    try:
        from . import popcount
    except ImportError:
        return None
    return popcount


def add_pairs(
    a: Tensor,  # (planes, rows, words) int64 on the CPU
    b: Tensor,  # (planes, others, words) int64
    out: Tensor,  # (rows, others) int32
) -> None:
    """Add the number of units that differ to `out`, on as many threads as PyTorch uses."""
    kernels = compiled()
    assert kernels is not None
    ours, theirs, sums = a.numpy(), b.numpy(), out.numpy()
    words = a.shape[2]

    def run(part: slice) -> None:
        if len(ours) == 1:
            kernels.pairs(ours[0, part], theirs[0], sums[part], max(1, _TILE // max(1, words)))
        else:
            kernels.pairs_of_planes(ours[:, part], theirs, sums[part])

    split(b.numel(), a.shape[1], run)
