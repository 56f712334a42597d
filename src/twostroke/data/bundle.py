"""`Data`: a training and a test source with their name and what they really are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError, SettingsError
from .augmentation import Augmentation
from .checks import check_labels
from .draws import draw_order
from .examples import Examples, ExampleSource, on_device
from .taken import as_images, as_tensor, check_alike, in_units_of
from .wrapped import DatasetExamples

Array = Tensor | np.ndarray  # what `from_tensors` takes
_SOME = 32  # items of a Dataset that are looked at


@runtime_checkable
class Divisible(Protocol):
    """A source that can give a part of itself."""

    def subset(self, indices: Tensor) -> ExampleSource:
        """These examples only."""


@dataclass
class Data:
    """What a run trains and tests on.

    `classes` left empty are the training source's. `note` says what data this really is, e.g.
    "10,000 + 2,000 images of MNIST", for reports to repeat. Raises `DataError` if image shapes or
    classes of the parts differ, or there are fewer than two classes.
    """

    name: str
    train: ExampleSource
    test: ExampleSource
    classes: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        self.classes = self.classes or self.train.classes
        _check_shapes(self.name, self.train.shape, self.test.shape)
        for part, source in (("training", self.train), ("test", self.test)):
            if source.classes != self.classes:
                raise DataError(
                    f"{self.name}: the {part} set has the classes {_listed(source.classes)}, "
                    f"but {_listed(self.classes)} are expected"
                )
        if len(self.classes) < 2:
            raise DataError(
                f"{self.name}: training needs two classes, there is {_listed(self.classes)}"
            )

    def to(self, device: torch.device | str) -> Data:
        """Return the data on `device`; sources without a method `to` stay as they are."""
        train = on_device(self.train, device)
        test = train if self.test is self.train else on_device(self.test, device)
        return replace(self, train=train, test=test)

    def split_validation(
        self,
        *,
        share: float | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> Data:
        """Set part of the training set aside: choose settings on it, and keep `test` unseen.

        Returns new data whose `test` is the part set aside, `count` examples or `share` of all,
        drawn at random from `seed`, and whose `train` is the rest. Both keep their order. Raises
        `SettingsError` for not exactly one of `share` and `count`, or a part that would be empty, and
        `DataError` if the training source has no method `subset`.
        """
        total = len(self.train)
        if (share is None) == (count is None):
            raise SettingsError("split_validation takes either share=... or count=...")
        if share is not None:
            if not 0 < share < 1:
                raise SettingsError(f"share must be between 0 and 1, got {share}")
            count = round(share * total)
        assert count is not None
        if not 0 < count < total:
            raise SettingsError(
                f"cannot set {count:,} of {total:,} training examples aside: both parts need some"
            )
        if not isinstance(self.train, Divisible):
            raise DataError(
                f"{type(self.train).__name__} cannot be split: give it a method subset(indices)"
            )
        order = draw_order(total, seed=seed)
        held_out, rest = order[:count].sort().values, order[count:].sort().values
        return replace(
            self,
            train=self.train.subset(rest),
            test=self.train.subset(held_out),
            note=f"{self.note}; of the training set, {total - count:,} to train and {count:,} "
            f"to validate (seed {seed})".removeprefix("; "),
        )


def from_tensors(
    x: Array,  # (count, channels, height, width), uint8 or floating
    y: Array,  # (count,) integer
    x_test: Array,  # (count_test, channels, height, width)
    y_test: Array,  # (count_test,)
    *,
    classes: Sequence[str] | None = None,
    augmentation: Augmentation | None = None,
    name: str = "tensors",
    note: str = "",
) -> Data:
    """Make `Data` of four tensors or arrays; both sets are normalised by the training set's mean and std.

    Images may lack their channel or have channels at the end (`as_images`); labels may be one-hot or floats
    (`as_labels`). Test images are brought to the units of the training images (`in_units_of`). What was done
    is in the note.

    `classes` left out are "0", "1", ... up to the highest training label. `augmentation` is the
    training set's. Raises `DataError` as `Examples` and `Data` do, if all training labels are the
    same, or images of the two sets are in different units; the text begins with `name` and says which set is
    meant.
    """
    x, y, told = _taken(name, "training", x, y)
    x_test, y_test, told_test = _taken(name, "test", x_test, y_test)
    _check_shapes(name, tuple(x.shape[1:]), tuple(x_test.shape[1:]))
    train = _training(name, x, y, classes=classes, augmentation=augmentation)
    if classes is None and int(y_test.max()) > int(y.max()):
        raise DataError(
            f"{name}: training labels are {_span(y)}, but test labels {_span(y_test)}; to allow "
            "classes without training examples, give the names of all classes"
        )
    try:
        x_test, told_units = in_units_of(x, x_test)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    test = _examples(
        name, "test", x_test, y_test, classes=train.classes, mean=train.mean, std=train.std
    )
    note = note or f"{len(train):,} + {len(test):,} examples given as tensors"
    note = "; ".join([note, *dict.fromkeys(t for t in (told, told_test, told_units) if t)])
    return Data(name, train, test, train.classes, note)


def as_data(obj: object, *, classes: Sequence[str] | None = None) -> Data:
    """Make `Data` of what a caller is likely to have.

    Taken are `Data` as it is; four tensors or arrays (x, y, x_test, y_test); two (x, y), which are
    then tested on as well, and `note` says so; and two Datasets or two sources of examples
    (train, test); of Datasets a few items are compared. `classes` names the labels where the parts do
    not. Raises `DataError` for anything else, or parts that do not fit together.
    """
    if isinstance(obj, Data):
        return obj
    parts: tuple[Any, ...] = tuple(obj) if isinstance(obj, tuple | list) else ()
    if len(parts) in (2, 4) and all(isinstance(part, Tensor | np.ndarray) for part in parts):
        if len(parts) == 4:
            return from_tensors(*parts, classes=classes)
        x, y, told = _taken("tensors", "training", *parts)
        only = _training("tensors", x, y, classes=classes)
        note = f"{len(only):,} examples given as tensors; no test set given, tested on the same"
        return Data("tensors", only, only, only.classes, f"{note}; {told}".removesuffix("; "))
    if len(parts) == 2 and all(isinstance(part, ExampleSource) for part in parts):
        train, test = parts
    elif len(parts) == 2 and all(isinstance(part, Dataset) for part in parts):
        train = DatasetExamples(parts[0], classes=classes)
        named = classes is not None or not hasattr(parts[1], "classes")
        test = DatasetExamples(parts[1], classes=train.classes if named else None)
        if train.shape == test.shape:  # else `Data` says so
            check_alike(_some(train), _some(test))
    else:
        given = ", ".join(type(part).__name__ for part in parts)
        raise DataError(
            "data must be Data, tensors or arrays (x, y) or (x, y, x_test, y_test), or two map-style "
            f"Datasets (train, test); got {type(obj).__name__}{f' of ({given})' if given else ''}"
        )
    note = f"{len(train):,} + {len(test):,} examples of {type(parts[0]).__name__}"
    return Data(type(parts[0]).__name__, train, test, note=note)


def _taken(name: str, part: str, x: Array, y: Array) -> tuple[Tensor, Tensor, str]:
    """Images and labels in the form that `Examples` has, and what was done."""
    try:
        images, told = as_images(as_tensor(x, "images"))
        return images, check_labels(as_tensor(y, "labels"), len(images)), told
    except DataError as error:
        raise DataError(f"{name}: {part} set: {error}") from error


def _some(source: DatasetExamples) -> Tensor:
    """Images of a few items."""
    count = min(_SOME, len(source))
    return source.batch(torch.arange(count) * len(source) // count)[0]


def _training(name: str, images: Tensor, labels: Tensor, **options: Any) -> Examples:
    train = _examples(name, "training", images, labels, **options)
    if bool((train.labels == train.labels[0]).all()):
        raise DataError(
            f"{name}: every training example has the label {int(train.labels[0])}, so there is "
            "nothing to learn"
        )
    return train


def _examples(name: str, part: str, images: Tensor, labels: Tensor, **options: Any) -> Examples:
    try:
        return Examples(images, labels, **options)
    except DataError as error:
        raise DataError(f"{name}: {part} set: {error}") from error


def _check_shapes(name: str, train: tuple[int, ...], test: tuple[int, ...]) -> None:
    if train != test:
        raise DataError(f"{name}: training images have the shape {train}, test images {test}")


def _span(labels: Tensor) -> str:
    return f"{int(labels.min())}..{int(labels.max())}"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:6])
    return f"({shown}, ... {len(names)} in all)" if len(names) > 6 else f"({shown})"
