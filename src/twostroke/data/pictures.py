"""Picture files of any size as a source of examples: decoded when asked for, cropped to one size."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._ahead import ReadAhead
from ..errors import DataError, SettingsError
from .augment import draw_integers
from .checks import as_indices, check_labels, class_names
from .picture_files import opened

# of ImageNet's training set, as torchvision's models expect it
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ATTEMPTS = 10
_FINE = 1 << 30

Box = tuple[float, float, float, float]  # left, upper, right, lower


class Pictures:
    """Pictures on disk with their labels; every batch is decoded anew, by several threads.

    Batches that are announced (`expect`) are decoded ahead, two of them at a time.

    An example as it is (no view) is the middle of its picture: the square of `crop` times the shorter
    side, resized to `size`. With `augment`, a view is a random resized crop (Szegedy et al. 2014: 8 to
    100 % of the area, sides 3:4 to 4:3) and a mirroring half of the time, drawn from (seed, index,
    view). Pixels become (p - mean) / std, of [0, 1].

    Raises:
        DataError: no files, labels that do not fit them or the classes; when a batch is asked for, a
            file that cannot be decoded or has more than 8 bits per channel, by name.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,  # (count,) integer
        *,
        classes: Sequence[str],
        size: int = 224,
        crop: float = 224 / 256,
        augment: bool = False,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        threads: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not files:
            raise DataError("no picture files were given")
        check_labels(labels, len(files))
        self.classes = class_names(classes)
        if int(labels.min()) < 0 or int(labels.max()) >= len(self.classes):
            raise DataError(f"labels must be in 0..{len(self.classes) - 1}")
        if size < 1 or not 0 < crop <= 1:
            raise SettingsError(f"size is 1 or more and crop a share, not {size} and {crop}")
        self.files, self.labels = list(files), labels.to(torch.int64)
        self.augment, self.size, self.crop = augment, size, crop
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self.threads = threads or min(16, os.cpu_count() or 1)
        self.device = torch.device(device)
        self._ahead: ReadAhead | None = None
        self._announced: tuple[int | None, int] = (None, 0)  # view and seed

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        return f"Pictures({len(self):,} of 3 x {self.size} x {self.size})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's (channels, height, width)."""
        return 3, self.size, self.size

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Decode pictures: x (batch, 3, size, size) float32 and y (batch,) int64, on `device`."""
        indices = as_indices(indices.cpu(), len(self))
        x = None
        if self._ahead is not None and self._announced == (view, seed):
            x = self._ahead.take(indices)
        if x is None:
            x = self._decode(indices, view, seed)
        pixels = x.to(self.device).permute(0, 3, 1, 2).float().div_(255)
        mean, std = (t.to(self.device)[:, None, None] for t in (self.mean, self.std))
        return pixels.sub_(mean).div_(std), self.labels[indices].to(self.device)

    def expect(self, batches: Iterable[Tensor], *, view: int | None = None, seed: int = 0) -> None:
        """Announce the indices of the batches that will be asked for next, of this view and seed.

        Other batches may be asked for in between; a new announcement takes the place of the one before.
        """
        if self._ahead is not None:
            self._ahead.forget()
        self._announced = view, seed
        # one thread in turn, which has `threads` others to decode with
        thread = ThreadPoolExecutor(1, thread_name_prefix="twostroke-pictures")
        self._ahead = ReadAhead(lambda indices: self._decode(indices, view, seed), thread)
        self._ahead.expect(batches)

    def _decode(
        self, indices: Tensor, view: int | None, seed: int
    ) -> Tensor:  # (batch, size, size, 3) uint8
        draws = None
        if view is not None and self.augment:
            streams = range(4 * _ATTEMPTS + 1)
            draws = torch.stack(
                [draw_integers(indices, _FINE, seed=seed, view=view, stream=k) for k in streams], 1
            )
        x = torch.empty(len(indices), self.size, self.size, 3, dtype=torch.uint8)

        def fill(row: int) -> None:
            draw = None if draws is None else (draws[row].double() / _FINE).tolist()
            x[row] = torch.from_numpy(self._read(self.files[int(indices[row])], draw))

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(fill, range(len(indices))))
        return x

    def to(self, device: torch.device | str) -> Pictures:
        """Return the same source with batches that arrive on `device`."""
        moved = self._copy()
        moved.device = torch.device(device)
        return moved

    def subset(
        self,
        indices: Tensor,  # (count,) integer
    ) -> Pictures:
        """Take some of the pictures, numbered anew from 0."""
        chosen = as_indices(indices.cpu(), len(self))
        if not len(chosen):
            raise DataError("a subset needs at least one index")
        part = self._copy()
        part.files = [self.files[i] for i in chosen.tolist()]
        part.labels = self.labels[chosen]
        return part

    def _copy(self) -> Pictures:
        other = copy.copy(self)
        other._ahead = None
        return other

    def _read(self, file: Path, draw: list[float] | None) -> np.ndarray:
        from PIL.Image import Resampling

        with opened(file) as picture:
            width, height = picture.size
            if draw is None:
                box, mirror = middle(width, height, self.crop), False
            else:
                box, mirror = random_crop(width, height, draw[1:]), draw[0] < 0.5
            resized = picture.convert("RGB").resize(
                (self.size, self.size), Resampling.BILINEAR, box=box
            )
        pixels = np.asarray(resized)
        return pixels[:, ::-1].copy() if mirror else pixels.copy()


def middle(width: int, height: int, crop: float) -> Box:
    """The centred square of `crop` times the shorter side."""
    side = crop * min(width, height)
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)


def random_crop(
    width: int,
    height: int,
    draw: Sequence[float],  # 4 uniform numbers in [0, 1) for each attempt
) -> Box:
    """Random resized crop: the first attempt that fits; else the largest middle of a good shape."""
    for k in range(0, len(draw) - 3, 4):
        area = width * height * (0.08 + 0.92 * draw[k])
        ratio = math.exp((2 * draw[k + 1] - 1) * math.log(4 / 3))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(draw[k + 2] * (width - w + 1)), int(draw[k + 3] * (height - h + 1))
            return left, upper, left + w, upper + h
    wide, high = min(width, height * 4 / 3), min(height, width * 4 / 3)
    return (width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2
