"""Picture files of any size as a source of examples: decoded when asked for, cropped to one size."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._ahead import ReadAhead
from ..errors import DataError, SettingsError
from .augmentation import ResizedCrop, middle
from .checks import as_channels, as_indices, as_subset, check_labels, class_names
from .picture_files import opened

# of ImageNet's training set, as torchvision's models expect it
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_THREADS = min(16, os.cpu_count() or 1)


class Pictures:
    """Pictures on disk with their labels; every batch is decoded when asked for, by several threads.

    Batches that are announced (`expect`) are decoded ahead, two of them at a time.

    An example as it is (no view) is the middle of its picture: the square of `crop` times the shorter
    side, resized to `size`. With an `augmentation`, a view is a random crop, resized likewise. Pixels,
    scaled to [0, 1], become (p - mean) / std.

    Raises `DataError` for no files, labels that do not fit them or the classes, and `SettingsError` for
    a `size` or `crop` out of range; `batch` raises `DataError` for a file that cannot be decoded or has
    more than 8 bits per channel, by name.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,  # (count,) integer
        *,
        classes: Sequence[str],
        size: int = 224,
        crop: float = 224 / 256,
        augmentation: ResizedCrop | None = None,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        device: torch.device | str = "cpu",
    ) -> None:
        if not files:
            raise DataError("no picture files were given")
        if size < 1 or not 0 < crop <= 1:
            raise SettingsError(f"size is 1 or more and crop a share, not {size} and {crop}")
        self.classes = class_names(classes)
        self.files = list(files)
        self.labels = check_labels(labels, len(files), self.classes)
        self.augmentation, self.size, self.crop = augmentation, size, crop
        self.mean, self.std = as_channels("mean", mean, 3), as_channels("std", std, 3)
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
        pixels = x.to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (255 * t.to(self.device)[:, None, None] for t in (self.mean, self.std))
        return pixels.sub_(mean).div_(std), self.labels[indices].to(self.device)

    def expect(self, batches: Iterable[Tensor], *, view: int | None = None, seed: int = 0) -> None:
        """Announce the indices of the batches that will be asked for next, of this view and seed.

        Other batches may be asked for in between; a new announcement replaces the one before.
        """
        if self._ahead is not None:
            self._ahead.forget()
        self._announced = view, seed
        # one batch after the other; `_decode` has threads of its own
        thread = ThreadPoolExecutor(1, thread_name_prefix="twostroke-pictures")
        self._ahead = ReadAhead(lambda indices: self._decode(indices, view, seed), thread)
        self._ahead.expect(batches)

    def to(self, device: torch.device | str) -> Pictures:
        """Return the same source with batches that arrive on `device`."""
        moved = copy.copy(self)
        moved.device, moved._ahead = torch.device(device), None
        return moved

    def subset(
        self,
        indices: Tensor,  # (count,) integer
    ) -> Pictures:
        """Take some of the pictures, numbered from 0 again.

        Raises `DataError` if `indices` are empty, not a row of integers, or out of range.
        """
        indices = as_subset(indices.cpu(), len(self))
        part = copy.copy(self)
        part.files = [self.files[i] for i in indices.tolist()]
        part.labels, part._ahead = self.labels[indices], None
        return part

    def pixels(
        self,
        indices: Tensor,  # (batch,) integer
    ) -> Tensor:  # (batch, size, size, 3) uint8
        """The middles of pictures as they are on disk, not normalised."""
        return self._decode(as_indices(indices.cpu(), len(self)), None, 0)

    def _decode(
        self, indices: Tensor, view: int | None, seed: int
    ) -> Tensor:  # (batch, size, size, 3) uint8
        draws: Sequence[Sequence[float] | None] = [None] * len(indices)
        if view is not None and self.augmentation is not None:
            draws = self.augmentation.draw(indices, view=view, seed=seed).tolist()
        files = [self.files[index] for index in indices.tolist()]
        x = torch.empty(len(files), self.size, self.size, 3, dtype=torch.uint8)
        with ThreadPoolExecutor(_THREADS) as pool:
            for row, pixels in enumerate(pool.map(self._read, files, draws)):
                x[row] = torch.from_numpy(pixels)
        return x

    def _read(self, file: Path, draw: Sequence[float] | None) -> np.ndarray:
        from PIL.Image import Resampling

        with opened(file) as picture:
            width, height = picture.size
            side = self.crop * min(width, height)
            box, mirror = middle(width, height, side, side), False
            if draw is not None and self.augmentation is not None:
                box, mirror = self.augmentation.crop(width, height, draw)
            resized = picture.convert("RGB").resize(
                (self.size, self.size), Resampling.BILINEAR, box=box
            )
        pixels = np.array(resized)
        return pixels[:, ::-1].copy() if mirror else pixels
