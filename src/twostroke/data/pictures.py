"""Picture files of any size as a source of examples: decoded when asked for, cropped to one size."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .._ahead import ReadAhead
from ..errors import DataError, SettingsError
from .augmentation import Augmentation, ResizedCrop
from .checks import as_channels, as_indices, as_subset, check_labels, class_names
from .decoding import Told, decoded, each, opened, silent
from .examples import Examples, normalised

if TYPE_CHECKING:
    from PIL.Image import Image

# of ImageNet's training set, as torchvision's models expect it; by channels
MEAN = {1: (0.449,), 3: (0.485, 0.456, 0.406)}
STD = {1: (0.226,), 3: (0.229, 0.224, 0.225)}
CROP = 224 / 256  # as torchvision evaluates
_THREADS = min(16, os.cpu_count() or 1)


class Pictures:
    """Pictures on disk with their labels; every batch is decoded when asked for, by several threads.

    Batches that are announced (`expect`) are decoded ahead, two of them at a time.

    An example as it is (no view) is the middle of its picture, as torchvision's `Resize` and `CenterCrop`
    give it: the shorter side resized to `size / crop` pixels, and the middle square of `size` cut out. With
    `size` as (height, width), pictures have that size already, and are taken whole. A view is drawn by the
    `augmentation`; `ResizedCrop` cuts while a picture is decoded. Pictures are brought to `channels`, 3 or 1
    (grey), as `decoded` says; pixels, scaled to [0, 1], become (p - mean) / std, by default with ImageNet's.

    Raises `DataError` for no files, labels that do not fit them or the classes, and `SettingsError` for
    a `size`, `crop` or `channels` out of range; `batch` raises `DataError` for a file that cannot be decoded,
    or whose size is not the one it should have, by name.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,  # (count,) integer
        *,
        classes: Sequence[str],
        size: int | tuple[int, int] = 224,
        crop: float = CROP,
        channels: int = 3,
        augmentation: Augmentation | ResizedCrop | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not files:
            raise DataError("no picture files were given")
        if channels not in (1, 3):
            raise SettingsError(
                f"pictures have 3 channels, or 1 where they are grey, not {channels}"
            )
        self.square = size if isinstance(size, int) else None
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1 or not 0 < crop <= 1:
            raise SettingsError(f"size is 1 or more and crop a share, not {size} and {crop}")
        if self.square is None and isinstance(augmentation, ResizedCrop):
            raise SettingsError("resized-crop needs the size that crops are resized to")
        self.shape = channels, height, width
        self.classes = class_names(classes)
        self.files = list(files)
        self.labels = check_labels(labels, len(files), self.classes)
        self.augmentation, self.crop = augmentation, crop
        self.mean = as_channels("mean", MEAN[channels] if mean is None else mean, channels)
        self.std = as_channels("std", STD[channels] if std is None else std, channels)
        self.device = torch.device(device)
        self._ahead: ReadAhead | None = None
        self._announced: tuple[int | None, int] = (None, 0)  # view and seed

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        return f"Pictures({len(self):,} of {' x '.join(map(str, self.shape))})"

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Decode pictures: x (batch, channels, height, width) float32 and y (batch,) int64, on `device`."""
        indices = as_indices(indices.cpu(), len(self))
        x = None
        if self._ahead is not None and self._announced == (view, seed):
            x = self._ahead.take(indices)
        if x is None:
            x = self._decode(indices, view, seed)
        x = normalised(x.to(self.device).permute(0, 3, 1, 2), self.mean, self.std)
        if view is not None and not isinstance(self.augmentation, ResizedCrop | None):
            x = self.augmentation(x, indices.to(self.device), view=view, seed=seed)
        return x, self.labels[indices].to(self.device)

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

    def in_memory(self, told: Told = silent, *, own_moments: bool = False) -> Examples:
        """The same examples, decoded once and held; with `own_moments` normalised by their own mean and std.

        `told` hears how many are read. Raises `DataError` with the first few of the files that cannot be
        read, and `SettingsError` where `ResizedCrop` needs the files at every view.
        """
        if isinstance(self.augmentation, ResizedCrop):
            raise SettingsError("resized-crop cuts pictures on disk: it cannot be held in memory")
        x = torch.empty(len(self), *self.shape, dtype=torch.uint8)

        def read(row: int) -> None:
            x[row] = torch.from_numpy(self._read(self.files[row], None)).permute(2, 0, 1)

        each(read, range(len(self)), "reading pictures", told)
        return Examples(
            x,
            self.labels,
            mean=None if own_moments else self.mean,
            std=None if own_moments else self.std,
            augmentation=self.augmentation,
            classes=self.classes,
        ).to(self.device)

    def _decode(
        self, indices: Tensor, view: int | None, seed: int
    ) -> Tensor:  # (batch, height, width, channels) uint8
        draws: Sequence[Sequence[float] | None] = [None] * len(indices)
        if view is not None and isinstance(self.augmentation, ResizedCrop):
            draws = self.augmentation.draw(indices, view=view, seed=seed).tolist()
        files = [self.files[index] for index in indices.tolist()]
        channels, height, width = self.shape
        x = torch.empty(len(files), height, width, channels, dtype=torch.uint8)
        with ThreadPoolExecutor(_THREADS) as pool:
            for row, pixels in enumerate(pool.map(self._read, files, draws)):
                x[row] = torch.from_numpy(pixels)
        return x

    def _read(
        self, file: Path, draw: Sequence[float] | None
    ) -> np.ndarray:  # (height, width, channels) uint8
        from PIL.Image import Resampling

        channels, height, width = self.shape
        mirror = False
        with opened(file) as found:
            picture = decoded(found, channels)
            if draw is not None and isinstance(self.augmentation, ResizedCrop):
                box, mirror = self.augmentation.crop(*picture.size, draw)
                picture = picture.resize((width, height), Resampling.BILINEAR, box=box)
            elif self.square is not None:
                picture = centred(picture, self.square, self.crop)
            elif picture.size != (width, height):
                raise DataError(
                    f"{file} has {picture.width} x {picture.height} pixels, not {width} x {height}: "
                    "give the size that all are brought to (image_size)"
                )
        pixels = np.array(picture).reshape(height, width, channels)
        return pixels[:, ::-1].copy() if mirror else pixels


def centred(picture: Image, size: int, crop: float) -> Image:
    """The middle, bit for bit as torchvision's `Resize(round(size / crop))` and `CenterCrop(size)` give it."""
    from PIL.Image import Resampling

    short, (width, height) = round(size / crop), picture.size
    w, h = (
        (short, int(short * height / width))
        if width <= height
        else (int(short * width / height), short)
    )
    left, upper = round((w - size) / 2), round((h - size) / 2)
    resized = picture.resize((w, h), Resampling.BILINEAR)
    return resized.crop((left, upper, left + size, upper + size))
