"""Random draws that can be repeated: each is a function of (seed, example index, view) alone.

A stored mask belongs to one view of one example. The view must therefore come out the same every
time, in any batch, on any device. A random generator with a state cannot do
that; a counter-based hash can. Ours is splitmix64 (Steele, Lea, Flood: "Fast splittable
pseudorandom number generators", 2014): the finaliser `mix` applied to a Weyl sequence,

    key    = mix(mix(seed * G) + view * G)          one number per call, in Python integers
    draw_k = mix(mix(key + index * G) + k * G)      one number per example and stream k

all modulo 2**64, with G = 0x9E3779B97F4A7C15. Tensors hold the 64 bits as int64, where addition
and multiplication wrap around on the CPU and on CUDA alike.
"""

from __future__ import annotations

from operator import index

import torch
from torch import Tensor

from ..errors import SettingsError

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_BITS = (1 << 64) - 1


def draw_integers(
    indices: Tensor,  # (batch,) integer
    below: int,
    *,
    seed: int,
    view: int,
    stream: int = 0,
) -> Tensor:
    """Draw one integer in [0, below) per example; equal arguments give equal draws, always.

    Returns (batch,) int64 on the device of `indices`. `stream` tells apart the several draws that
    one view of one example needs. The draw is uniform up to a bias below `below` / 2**32.
    Raises `SettingsError` if `below` is not in [1, 2**31).
    """
    if not 1 <= below < 1 << 31:
        raise SettingsError(f"below must be at least 1 and less than 2**31, got {below}")
    # `index` turns NumPy's integers, which overflow, into Python's
    key = _mix_int(_mix_int(index(seed) * _GOLDEN) + index(view) * _GOLDEN)
    state = _mix(indices.to(torch.int64) * _signed(_GOLDEN) + _signed(key))
    state = _mix(state + _signed(stream * _GOLDEN))
    # the upper half as a fixed-point fraction of 2**32, times `below`: no modulo, no overflow
    return (_shift_right(state, 32) * below) >> 32


def draw_order(count: int, *, seed: int, view: int = 0) -> Tensor:
    """A permutation of 0 to `count` - 1, (count,) int64, that no version of PyTorch will change."""
    draws = draw_integers(torch.arange(count), (1 << 31) - 1, seed=seed, view=view)
    return torch.argsort(draws, stable=True)


def draw_some(some: int, count: int, *, seed: int, view: int = 0) -> Tensor:
    """`some` of 0 to `count` - 1, or all there are, drawn without replacement, in ascending order."""
    return draw_order(count, seed=seed, view=view)[:some].sort().values


def _signed(number: int) -> int:
    """Read the low 64 bits as a signed number, as int64 tensors hold them."""
    number &= _BITS
    return number - (1 << 64) if number >> 63 else number


def _shift_right(z: Tensor, count: int) -> Tensor:
    """Shift in zeros from the left, where `>>` on int64 would copy the sign bit."""
    return (z >> count) & ((1 << (64 - count)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _signed(_FIRST)
    z = (z ^ _shift_right(z, 27)) * _signed(_SECOND)
    return z ^ _shift_right(z, 31)


def _mix_int(z: int) -> int:
    z &= _BITS
    z = ((z ^ (z >> 30)) * _FIRST) & _BITS
    z = ((z ^ (z >> 27)) * _SECOND) & _BITS
    return z ^ (z >> 31)
