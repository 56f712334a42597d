"""Augmentation that can be replayed: its draws depend on (seed, example index, view) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import DataError, SettingsError, UnknownNameError, unknown
from .draws import draw_integers

Box = tuple[float, float, float, float]  # left, upper, right, lower


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


@dataclass(frozen=True)
class FlipShift:
    """Mirror left to right with probability one half, then move by up to `shift` pixels.

    Vertical and horizontal offsets are uniform on -shift..shift, drawn apart. Pixels that move in
    from outside get `fill`, in the units of the images passed; sources call this after
    normalisation, where 0 is the training set's mean colour. Raises `SettingsError` for a negative
    `shift`, a `fill` that is not finite, or (when called) a shift that is not smaller than the image.
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


@dataclass(frozen=True)
class ResizedCrop:
    """Random resized crop (Szegedy et al. 2014), mirrored with probability one half.

    The crop has 8 to 100 % of the picture's area and sides from 3:4 to 4:3. It is cut while a picture
    is decoded, so only `Pictures` takes it: images in memory have their size already.
    """

    _ATTEMPTS = 10
    _FINE = 1 << 30

    def draw(
        self,
        indices: Tensor,  # (batch,) integer
        *,
        view: int,
        seed: int,
    ) -> Tensor:  # (batch, 41) float64 in [0, 1)
        """Draw for each picture whether to mirror it, then four numbers for each attempt to crop."""
        streams = range(4 * self._ATTEMPTS + 1)
        drawn = [
            draw_integers(indices, self._FINE, seed=seed, view=view, stream=k) for k in streams
        ]
        return torch.stack(drawn, 1).double() / self._FINE

    def crop(
        self,
        width: int,
        height: int,
        draw: Sequence[float],  # one row of `draw`
    ) -> tuple[Box, bool]:
        """Return the crop in a picture of `width` x `height` pixels, and whether to mirror it.

        It is the first attempt that fits, else the largest middle of a good shape.
        """
        mirror = draw[0] < 0.5
        for k in range(1, len(draw) - 3, 4):
            area = width * height * (0.08 + 0.92 * draw[k])
            ratio = math.exp((2 * draw[k + 1] - 1) * math.log(4 / 3))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, upper = (
                    int(draw[k + 2] * (width - w + 1)),
                    int(draw[k + 3] * (height - h + 1)),
                )
                return (left, upper, left + w, upper + h), mirror
        return middle(width, height, min(width, height * 4 / 3), min(height, width * 4 / 3)), mirror


def middle(width: int, height: int, w: float, h: float) -> Box:
    """The crop of `w` x `h` pixels in the middle of a picture of `width` x `height`."""
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


_BY_NAME: dict[str, Callable[[], Augmentation | ResizedCrop | None]] = {
    "none": lambda: None,
    "shift": lambda: FlipShift(flip=False),
    "flip-shift": FlipShift,
    "resized-crop": ResizedCrop,
}


def named_augmentation(name: str) -> Augmentation | ResizedCrop | None:
    """Return the augmentation "flip-shift", "shift" (no mirroring) or "resized-crop"; "none" is None.

    Raises `UnknownNameError` if no augmentation has this name.
    """
    if name not in _BY_NAME:
        raise UnknownNameError(unknown("augmentation", name, _BY_NAME))
    return _BY_NAME[name]()
