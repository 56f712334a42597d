"""Hamming distances of packed bits on a CPU by popcount, where numba is installed.

Four rows are compared at a time with a tile of the others that stays in the cache: a word is read once and
serves four distances. LLVM turns the loop into the widest popcount that the processor has.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from ..support.kernels import split
from ..support.layouts import kernels_wanted

_TILE = 1 << 15  # words of a tile: 256 KiB


@lru_cache(maxsize=1)
def compiled() -> SimpleNamespace | None:
    """The kernels, or None without numba or where TWOSTROKE_KERNELS=0 switches them off."""
    if not kernels_wanted():
        return None
    try:
        from numba import njit
        from numba.extending import intrinsic
    except ImportError:
        return None

    @intrinsic  # type: ignore[misc]
    def popcount(_context: Any, word: Any) -> Any:
        return word(word), lambda _c, builder, _s, args: builder.ctpop(args[0])

    @njit(nogil=True, cache=True)
    def pairs(a: Any, b: Any, out: Any, tile: Any) -> None:
        # a (rows, words), b (others, words) int64; adds to out (rows, others) int32
        rows, words = a.shape
        whole = rows - rows % 4
        for start in range(0, len(b), tile):
            end = min(start + tile, len(b))
            for i in range(0, whole, 4):
                for j in range(start, end):
                    c0 = c1 = c2 = c3 = 0
                    for w in range(words):
                        word = b[j, w]
                        c0 += popcount(a[i, w] ^ word)
                        c1 += popcount(a[i + 1, w] ^ word)
                        c2 += popcount(a[i + 2, w] ^ word)
                        c3 += popcount(a[i + 3, w] ^ word)
                    out[i, j] += c0
                    out[i + 1, j] += c1
                    out[i + 2, j] += c2
                    out[i + 3, j] += c3
            for i in range(whole, rows):
                for j in range(start, end):
                    c0 = 0
                    for w in range(words):
                        c0 += popcount(a[i, w] ^ b[j, w])
                    out[i, j] += c0

    @njit(nogil=True, cache=True)
    def pairs_of_planes(a: Any, b: Any, out: Any) -> None:
        # a (planes, rows, words), b (planes, others, words): a unit counts once
        planes, rows, words = a.shape
        for i in range(rows):
            for j in range(b.shape[1]):
                count = 0
                for w in range(words):
                    word = a[0, i, w] ^ b[0, j, w]
                    for p in range(1, planes):
                        word |= a[p, i, w] ^ b[p, j, w]
                    count += popcount(word)
                out[i, j] += count

    return SimpleNamespace(pairs=pairs, pairs_of_planes=pairs_of_planes)


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
