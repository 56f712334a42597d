"""Labelled images in memory, fetched by index: what a stored mask can belong to."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from .augmentation import Augmentation
from .checks import (
    as_channels,
    as_indices,
    as_labels,
    as_subset,
    check_images,
    check_labels,
    chunks,
    class_names,
)


@runtime_checkable
class ExampleSource(Protocol):
    """What training needs of a data set; `Examples` and `DatasetExamples` are two, bring your own.

    `batch` must give the same tensors whenever indices, view and seed are the same, in any
    batch; `check_replayable` tries that out.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's (channels, height, width)."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; label k stands for `classes[k]`."""
        ...

    def __len__(self) -> int: ...

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Fetch x (batch, channels, height, width) float32 and y (batch,) int64."""
        ...


def announce(
    source: object, batches: Iterable[Tensor], *, view: int | None = None, seed: int = 0
) -> None:
    """Tell a source which batches will be asked for next, and of which view, if it can use that."""
    expect = getattr(source, "expect", None)
    if expect is not None:
        expect(batches, view=view, seed=seed)


def on_device(source: ExampleSource, device: torch.device | str) -> ExampleSource:
    """Return the source on `device`; one without a method `to` stays as it is."""
    to = getattr(source, "to", None)
    return source if to is None else cast(ExampleSource, to(device))


class Examples:
    """Images and labels held in memory, on one device.

    Images are (count, channels, height, width), uint8 or floating; labels are (count,) integers, or what
    `as_labels` makes them of.
    `mean` and `std`, (channels,) each, are those of the training set: of pixels scaled to [0, 1]
    if the images are uint8, in the images' own units otherwise. Left out, they are computed from
    these images; pass the training set's to a test set. A channel that never changes gets std 1.
    `classes` left out are "0", "1", ... up to the highest label.

    Raises `DataError`, which names the first, for no examples, counts of images and labels that
    differ, a wrong shape or type, a label without a class, or a pixel that is NaN or infinite.
    """

    def __init__(
        self,
        images: Tensor,  # (count, channels, height, width), uint8 or floating
        labels: Tensor,  # (count,), any integer type
        *,
        mean: Tensor | Sequence[float] | None = None,  # (channels,)
        std: Tensor | Sequence[float] | None = None,  # (channels,)
        augmentation: Augmentation | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        check_images(images)
        labels = as_labels(labels)
        highest = int(labels.max()) if len(labels) else 0
        self.classes = class_names(classes, highest=highest)
        self.images = images
        self.labels = check_labels(labels, len(images), self.classes).to(images.device)
        self.augmentation = augmentation
        if mean is None or std is None:
            own_mean, own_std = _moments(images)
            mean = own_mean if mean is None else mean
            std = own_std if std is None else std
        self.mean = as_channels("mean", mean, images.shape[1]).to(images.device)
        self.std = as_channels("std", std, images.shape[1]).to(images.device)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        return (
            f"Examples({len(self):,} of {channels} x {height} x {width}, "
            f"{len(self.classes)} classes, {self.images.dtype}, {self.images.device})"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's (channels, height, width)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the images live, and where `batch` returns tensors."""
        return self.images.device

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len), on any device
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Fetch examples, normalised to (pixel - mean) / std, then augmented.

        Returns x (batch, channels, height, width) float32 and y (batch,) int64, on the images'
        device. `view` is the number of the augmented view; None means the image as it is. Raises
        `DataError` if `indices` are not a row of integers, or (seen on the CPU only, where looking
        costs nothing) one is out of range.
        """
        indices = as_indices(indices, len(self)).to(self.device)
        # index_select, unlike brackets, refuses negative indices on every device
        x = normalised(self.images.index_select(0, indices), self.mean, self.std)
        if view is not None and self.augmentation is not None:
            x = self.augmentation(x, indices, view=view, seed=seed)
        return x, self.labels.index_select(0, indices)

    def to(self, device: torch.device | str) -> Examples:
        """Return these examples on `device`; tensors that are there already are shared."""
        moved = copy.copy(self)
        moved.images, moved.labels = self.images.to(device), self.labels.to(device)
        moved.mean, moved.std = self.mean.to(device), self.std.to(device)
        return moved

    def subset(
        self,
        indices: Tensor,  # (count,) integer
    ) -> Examples:
        """Copy some of the examples, numbered from 0 again; mean, std and classes stay.

        Raises `DataError` if `indices` are empty, not a row of integers, or out of range.
        """
        indices = as_subset(indices, len(self)).to(self.device)
        part = copy.copy(self)
        part.images = self.images.index_select(0, indices)
        part.labels = self.labels.index_select(0, indices)
        return part


def normalised(
    images: Tensor,  # (batch, channels, height, width), uint8 or floating; memory of its own
    mean: Tensor,  # (channels,)
    std: Tensor,  # (channels,)
) -> Tensor:
    """(pixel - mean) / std as float32; of uint8, mean and std are those of pixels in [0, 1]."""
    scale = 1.0 if images.is_floating_point() else 255.0
    shift, width = ((t.to(images.device) * scale)[:, None, None] for t in (mean, std))
    return images.to(torch.float32).sub_(shift).div_(width)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (divided by the count) per channel, (channels,) each.

    Two passes in float64 on the CPU: the same numbers whichever device the images live on.
    """
    scale = 1.0 if images.is_floating_point() else 255.0
    count = images.numel() // images.shape[1]

    def average(centre: Tensor, power: int) -> Tensor:
        total = torch.zeros_like(centre)
        for _, chunk in chunks(images):
            # a copy, also of float64: what follows works in place
            pixels = chunk.to("cpu", torch.float64, copy=True).sub_(centre[:, None, None])
            total += pixels.pow_(power).sum((0, 2, 3))
        return total / count

    mean = average(torch.zeros(images.shape[1], dtype=torch.float64), 1)
    std = average(mean, 2).sqrt()
    return mean / scale, torch.where(std == 0, scale, std) / scale
