"""The kernels that `kernels` calls, compiled by numba: at first use, and kept on disk."""

from __future__ import annotations

import numpy as np
from numba import njit

# sums may be split among the lanes of a processor; everything else is as written
_FAST = {"reassoc", "contract"}


@njit(nogil=True, cache=True, fastmath=_FAST)
def moments(q, sums):
    """Sum and sum of squares of each row: q (rows, units), sums (rows, 2) float64."""
    for i in range(q.shape[0]):
        total, squares = 0.0, 0.0
        for u in range(q.shape[1]):
            value = np.float64(q[i, u])
            total += value
            squares += value * value
        sums[i, 0], sums[i, 1] = total, squares


@njit(nogil=True, cache=True)
def unpack(packed, sides, pixels):
    """Bits as sides, 1 or -1: packed (bytes,), sides (units,) int8.

    With `pixels` the bit of unit `c * pixels + p` is put to place `p * channels + c`, as it lies in a
    channels-last tensor.
    """
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
def value(q, packed, sides, pixels, scale, sums):
    """`Σ max(0, 1 - s · scale · q)²` of each row; scale of q's type, sums (rows,) float64."""
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
    q,
    packed,
    sides,
    pixels,
    scale,
    factor,
    out,
):
    """Its slope, `factor · s · max(0, 1 - s · scale · q)`, into `out`."""
    zero, one = scale - scale, scale / scale
    for i in range(q.shape[0]):
        unpack(packed[i], sides, pixels)
        for u in range(q.shape[1]):
            short = max(one - sides[u] * scale * q[i, u], zero)
            out[i, u] = short * (sides[u] * factor)
