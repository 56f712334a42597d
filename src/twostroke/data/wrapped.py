"""A map-style torch Dataset as a source of examples, and a test that a source can be replayed."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from ..errors import DataError, NotReplayableError, SettingsError
from .augmentation import Augmentation
from .checks import as_channels, as_indices, as_subset, class_names
from .examples import ExampleSource
from .taken import is_channels_last
from .workers import Workers


class DatasetExamples:
    """Items of a map-style Dataset, fetched one by one whenever a batch asks for them.

    An item is a pair of an image tensor (channels, height, width), uint8 or floating, and a label,
    a Python integer or a tensor with one. uint8 is scaled to [0, 1]; then `mean` and `std`,
    (channels,) each, are applied if given. The dataset's own transforms run at every fetch, so
    they must not be random: augment with `augmentation` instead. Nothing is cached.

    `workers` processes fetch ahead what `expect` announces, as a DataLoader's do; the tensors are the
    same, bit for bit. They pay where items are slow, such as pictures that are decoded.

    `classes` left out come from the dataset's `classes`, or are counted from its `targets`,
    `labels` or, in a TensorDataset, its second tensor.

    Raises `DataError` if the dataset is empty or has no length, item 0 is not as above, or the classes
    cannot be told, and `SettingsError` for a negative number of workers.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        classes: Sequence[str] | None = None,
        augmentation: Augmentation | None = None,
        mean: Tensor | Sequence[float] | None = None,  # (channels,)
        std: Tensor | Sequence[float] | None = None,  # (channels,)
        device: torch.device | str = "cpu",
        workers: int = 0,
    ) -> None:
        if workers < 0:
            raise SettingsError(f"workers is a number of processes, 0 or more, not {workers}")
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise DataError(
                f"{type(dataset).__name__} has no length or cannot be indexed; examples need an "
                "index, so use a map-style dataset"
            )
        if not len(dataset):
            raise DataError(f"{type(dataset).__name__} is empty")
        self.dataset: Dataset[Any] = dataset
        self.augmentation = augmentation
        self.device = torch.device(device)
        self.classes = class_names(classes) if classes is not None else _find_classes(dataset)
        image, _ = self._item(0)
        if is_channels_last(image):
            raise DataError(
                f"item 0 has an image of {tuple(image.shape)}, with its channels at the end: give them "
                "first, by permute(2, 0, 1) or torchvision's ToTensor()"
            )
        self._shape: tuple[int, int, int] = (image.shape[0], image.shape[1], image.shape[2])
        channels = image.shape[0]
        self.mean = as_channels("mean", torch.zeros(channels) if mean is None else mean, channels)
        self.std = as_channels("std", torch.ones(channels) if std is None else std, channels)
        self.workers = workers
        self._ahead: Workers | None = None

    def __len__(self) -> int:
        return len(cast(Sized, self.dataset))

    def __repr__(self) -> str:
        channels, height, width = self.shape
        return (
            f"DatasetExamples({type(self.dataset).__name__}, {len(self):,} of "
            f"{channels} x {height} x {width}, {len(self.classes)} classes)"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's (channels, height, width)."""
        return self._shape

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Fetch and stack items, normalised, then augmented if `view` is a number.

        Returns x (batch, channels, height, width) float32 and y (batch,) int64, on `device`. Raises
        `DataError`, which names the index, if one is out of range, or an item is not a pair of an
        image like the first and a label that has a class.
        """
        indices = as_indices(indices.cpu(), len(self))
        found = self._ahead.take(indices) if self._ahead is not None else None
        x, y = found or self._fetch(indices)
        x, y, indices = x.to(self.device), y.to(self.device), indices.to(self.device)
        if view is not None and self.augmentation is not None:
            x = self.augmentation(x, indices, view=view, seed=seed)
        return x, y

    def expect(self, batches: Iterable[Tensor], *, view: int | None = None, seed: int = 0) -> None:
        """Announce the indices of the batches that will be asked for next, in order.

        Workers fetch them ahead, for any view. Other batches may be asked for in between; a new
        announcement replaces the one before.
        """
        if self.workers:
            if self._ahead is None:
                sent = self._like()._fetch  # of a copy, which refers to no workers
                self._ahead = Workers(sent, self.workers, pin=self.device.type == "cuda")
            self._ahead.expect(batches)

    def _fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Items stacked and normalised, on the CPU."""
        x = torch.empty(len(indices), *self.shape)
        y = torch.empty(len(indices), dtype=torch.int64)
        for row, index in enumerate(indices.tolist()):
            image, y[row] = self._item(index)
            if image.shape != self.shape:
                raise DataError(
                    f"item {index} has the shape {tuple(image.shape)}, but item 0 has {self.shape};"
                    " make them all one size"
                )
            x[row] = image.to(torch.float32) / (255.0 if image.dtype == torch.uint8 else 1.0)
        finite = x.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            bad = int(indices[int((~finite).nonzero()[0])])
            raise DataError(f"item {bad} has a pixel that is NaN or infinite")
        return x.sub_(self.mean[:, None, None]).div_(self.std[:, None, None]), y

    def to(self, device: torch.device | str) -> DatasetExamples:
        """Return the same source with batches that arrive on `device`."""
        moved = self._like()
        moved.device = torch.device(device)
        return moved

    def subset(
        self,
        indices: Tensor,  # (count,) integer
    ) -> DatasetExamples:
        """Take some of the items, numbered from 0 again, without fetching them.

        Raises `DataError` if `indices` are empty, not a row of integers, or out of range.
        """
        part = self._like()
        part.dataset = Subset(self.dataset, as_subset(indices.cpu(), len(self)).tolist())
        return part

    def _like(self) -> DatasetExamples:
        other = copy.copy(self)
        other._ahead = None
        return other

    def _item(self, index: int) -> tuple[Tensor, int]:
        item = self.dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"item {index} is {_kind(item)}, not a pair (image, label)")
        image, label = item
        if not isinstance(image, Tensor):
            raise DataError(
                f"the image of item {index} is {_kind(image)}, not a tensor; "
                "give the dataset a transform such as torchvision.transforms.ToTensor()"
            )
        if image.dim() != 3 or not (image.is_floating_point() or image.dtype == torch.uint8):
            raise DataError(
                f"the image of item {index} must be (channels, height, width), uint8 or floating; "
                f"it is {image.dtype} of shape {tuple(image.shape)}"
            )
        try:
            label = operator.index(label)  # refuses floats and tensors of more than one number
        except (TypeError, ValueError) as error:
            raise DataError(
                f"the label of item {index} is {_kind(label)}, not an integer"
            ) from error
        if not 0 <= label < len(self.classes):
            raise DataError(
                f"item {index} has label {label}, but labels must be in 0..{len(self.classes) - 1}"
            )
        return image, label


def check_replayable(source: ExampleSource, *, samples: int = 8) -> None:
    """Fetch some examples of one view twice and compare them.

    The second fetch takes them in reverse order, so that draws which depend on the place in the
    batch show too. A random flip escapes with probability 2**-samples. Raises `NotReplayableError`,
    which names the index, if an example came out differently.
    """
    count = min(samples, len(source))
    indices = torch.arange(count) * len(source) // count
    x, y = source.batch(indices, view=0, seed=0)
    x_again, y_again = (part.flip(0) for part in source.batch(indices.flip(0), view=0, seed=0))
    same = torch.isclose(x, x_again, rtol=0, atol=0, equal_nan=True).flatten(1).all(1)
    same &= y == y_again
    if not bool(same.all()):
        bad = int(indices[int((~same).nonzero()[0])])
        raise NotReplayableError(
            f"example {bad}, fetched twice as view 0, came out differently, so no stored mask can "
            "belong to it. Take the random transforms out of the dataset and pass an "
            "`augmentation` of twostroke.data, such as FlipShift(), whose draws depend on (seed, "
            "index, view) alone; write your own with twostroke.data.draw_integers"
        )


def _find_classes(dataset: Any) -> tuple[str, ...]:
    inner = dataset
    while isinstance(inner, Subset):
        inner = inner.dataset
    names = getattr(inner, "classes", None)
    if names is not None:
        return class_names([str(name) for name in names])
    labels = getattr(inner, "targets", getattr(inner, "labels", None))
    if isinstance(inner, TensorDataset) and len(inner.tensors) == 2:
        labels = inner.tensors[1]
    if labels is None:
        raise DataError(
            f"{type(inner).__name__} does not say what its classes are; "
            "pass classes=(...), one name for each label"
        )
    return class_names(None, highest=int(torch.as_tensor(labels).max()))


def _kind(thing: object) -> str:
    return f"of type {type(thing).__name__}"
