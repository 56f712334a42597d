"""Kernels of Hamming distances in numba; `kernels` calls them.

Four rows are compared at a time with a tile of the others that stays in the cache: a word is read once and
serves four distances. LLVM turns the loop into the widest popcount that the processor has.
"""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.extending import intrinsic


def _popcount(_context: Any, word: Any) -> Any:
    return word(word), lambda _context, builder, _signature, args: builder.ctpop(args[0])


_ones: Any = intrinsic(_popcount)  # number of bits that are set


@njit(nogil=True, cache=True)
def pairs(
    a: Any,  # (rows, words) int64
    b: Any,  # (others, words) int64
    out: Any,  # (rows, others) int32
    tile: Any,
) -> None:
    """Add the number of bits that differ to `out`; `tile` rows of `b` at a time."""
    rows, words = a.shape
    whole = rows - rows % 4
    for start in range(0, len(b), tile):
        end = min(start + tile, len(b))
        for i in range(0, whole, 4):
            for j in range(start, end):
                c0 = c1 = c2 = c3 = 0
                for w in range(words):
                    word = b[j, w]
                    c0 += _ones(a[i, w] ^ word)
                    c1 += _ones(a[i + 1, w] ^ word)
                    c2 += _ones(a[i + 2, w] ^ word)
                    c3 += _ones(a[i + 3, w] ^ word)
                out[i, j] += c0
                out[i + 1, j] += c1
                out[i + 2, j] += c2
                out[i + 3, j] += c3
        for i in range(whole, rows):
            for j in range(start, end):
                c0 = 0
                for w in range(words):
                    c0 += _ones(a[i, w] ^ b[j, w])
                out[i, j] += c0


@njit(nogil=True, cache=True)
def pairs_of_planes(
    a: Any,  # (planes, rows, words) int64
    b: Any,  # (planes, others, words) int64
    out: Any,  # (rows, others) int32
) -> None:
    """Add the number of units that differ in any plane to `out`."""
    planes, rows, words = a.shape
    for i in range(rows):
        for j in range(b.shape[1]):
            count = 0
            for w in range(words):
                word = a[0, i, w] ^ b[0, j, w]
                for p in range(1, planes):
                    word |= a[p, i, w] ^ b[p, j, w]
                count += _ones(word)
            out[i, j] += count
