"""Augmentation that can be replayed: every draw is a function of (seed, example index, view).

A stored mask belongs to one view of one example, so the view must come out the same however often
it is asked for, in whatever batch, on whatever device. A random generator with a state cannot do
that; a counter-based hash can. Ours is splitmix64 (Steele, Lea, Flood: "Fast splittable
pseudorandom number generators", 2014): the finaliser `mix` applied to a Weyl sequence,

    key    = mix(mix(seed * G) + view * G)          one number per call, in Python integers
    draw_k = mix(mix(key + index * G) + k * G)      one number per example and stream k

all modulo 2**64, with G = 0x9E3779B97F4A7C15. Tensors hold the 64 bits as int64, where addition
and multiplication wrap around on the CPU and on CUDA alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from typing import Protocol

import torch
from torch import Tensor

from ..errors import DataError, SettingsError, UnknownNameError, unknown

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_BITS = (1 << 64) - 1


class Augmentation(Protocol):
    """What `Examples` calls on a batch; write your own with `draw_integers`."""

    def __call__(
        self,
        images: Tensor,  # (batch, channels, height, width), normalised
        indices: Tensor,  # (batch,) int64, each example's index in its data set
        *,
        view: int,
        seed: int,
    ) -> Tensor:
        """Return new images of the same shape, a function of the four arguments alone."""
        ...


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

    Raises:
        SettingsError: `below` is not in [1, 2**31).
    """
    if not 1 <= below < 1 << 31:
        raise SettingsError(f"below must be at least 1 and less than 2**31, got {below}")
    # `index`, lest NumPy's integers overflow
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


@dataclass(frozen=True)
class FlipShift:
    """Mirror left to right with probability one half, then move by up to `shift` pixels.

    Vertical and horizontal offsets are uniform on -shift..shift, drawn apart. Pixels that move in
    from outside get `fill`, in the units of the images passed; sources call this after
    normalisation, where 0 is the training set's mean colour.

    Raises:
        SettingsError: negative `shift`, `fill` not finite, or (when called) a shift that is not
            smaller than the image.
    """

    flip: bool = True
    shift: int = 5
    fill: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise SettingsError(f"FlipShift: shift must be 0 or more pixels, got {self.shift}")
        if not math.isfinite(self.fill):
            raise SettingsError(f"FlipShift: fill must be finite, got {self.fill}")

    def __call__(
        self,
        images: Tensor,  # (batch, channels, height, width), uint8 or floating
        indices: Tensor,  # (batch,) integer
        *,
        view: int,
        seed: int,
    ) -> Tensor:
        """Return the view numbered `view` of each image: same shape, dtype and device."""
        if images.dim() != 4 or indices.shape != images.shape[:1]:
            raise DataError(
                "FlipShift takes images (batch, channels, height, width) and one index for each; "
                f"got {tuple(images.shape)} and {tuple(indices.shape)}"
            )
        height, width = images.shape[2:]
        if self.shift >= min(height, width):
            raise SettingsError(
                f"FlipShift: shift {self.shift} would move images of {height} x {width} pixels "
                "out of sight; choose a smaller shift"
            )
        indices = indices.to(images.device)

        def draw(stream: int, below: int) -> Tensor:
            return draw_integers(indices, below, seed=seed, view=view, stream=stream)[:, None]

        mirror = draw(0, 2)  # (batch, 1), 0 or 1
        down = draw(1, 2 * self.shift + 1) - self.shift
        right = draw(2, 2 * self.shift + 1) - self.shift

        rows = torch.arange(height, device=images.device) - down  # (batch, height): where from
        columns = torch.arange(width, device=images.device) - right  # (batch, width)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
            :, None, :
        ]  # (batch, height, width)
        if self.flip:
            columns = torch.where(mirror == 1, width - 1 - columns, columns)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # (batch, h * w)
        moved = images.flatten(2).gather(2, pixels[:, None].expand(-1, images.shape[1], -1))
        fill = self.fill if images.is_floating_point() else int(self.fill)
        return moved.view(images.shape).masked_fill_(~inside[:, None], fill)


_BY_NAME: dict[str, Callable[[], Augmentation | None]] = {
    "none": lambda: None,
    "flip-shift": FlipShift,
    "shift": lambda: FlipShift(flip=False),
}


def augmentation(name: str) -> Augmentation | None:
    """Look an augmentation up: "none" (gives None), "flip-shift", or "shift" (no mirroring).

    Raises:
        UnknownNameError: no augmentation has this name.
    """
    if name not in _BY_NAME:
        raise UnknownNameError(unknown("augmentation", name, _BY_NAME))
    return _BY_NAME[name]()


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
