"""`Data`: a training and a test source with their name and what they really are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError, SettingsError
from .augmentation import Augmentation
from .checks import highest_label
from .draws import draw_order
from .examples import Examples, ExampleSource, on_device
from .wrapped import DatasetExamples

if TYPE_CHECKING:
    from .preprocessing import Whitening


@runtime_checkable
class Divisible(Protocol):
    """A source that can give a part of itself."""

    def subset(self, indices: Tensor) -> ExampleSource:
        """These examples only."""


@dataclass
class Data:
    """What a run trains and tests on.

    `classes` left empty are the training source's. `note` says what data this really is, e.g.
    "10,000 + 2,000 images of MNIST", for reports to repeat. `preprocess` fills in the last two: the
    `whitening` that was done to the images, and whether they were of bytes before. Raises `DataError` if
    image shapes or classes of the parts differ, or there are fewer than two classes.
    """

    name: str
    train: ExampleSource
    test: ExampleSource
    classes: tuple[str, ...] = ()
    note: str = ""
    whitening: Whitening | None = None
    of_bytes: bool = True

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
    x: Tensor,  # (count, channels, height, width), uint8 or floating
    y: Tensor,  # (count,) integer
    x_test: Tensor,  # (count_test, channels, height, width)
    y_test: Tensor,  # (count_test,)
    *,
    classes: Sequence[str] | None = None,
    augmentation: Augmentation | None = None,
    name: str = "tensors",
    note: str = "",
) -> Data:
    """Make `Data` of four tensors; both sets are normalised by the training set's mean and std.

    `classes` left out are "0", "1", ... up to the highest training label. `augmentation` is the
    training set's. Raises `DataError` as `Examples` and `Data` do, or if all training labels are the
    same; the text begins with `name` and says which set is meant.
    """
    train = _training(name, x, y, classes=classes, augmentation=augmentation)
    if classes is None and highest_label(y_test) > highest_label(y):
        raise DataError(
            f"{name}: training labels are {_span(y)}, but test labels {_span(y_test)}; to allow "
            "classes without training examples, give the names of all classes"
        )
    if isinstance(x_test, Tensor) and x_test.dim() == 4:
        # before the training set's mean is tried on them
        _check_shapes(name, train.shape, tuple(x_test.shape[1:]))
    test = _examples(
        name, "test", x_test, y_test, classes=train.classes, mean=train.mean, std=train.std
    )
    note = note or f"{len(train):,} + {len(test):,} examples given as tensors"
    return Data(name, train, test, train.classes, note)


def as_data(obj: object, *, classes: Sequence[str] | None = None) -> Data:
    """Make `Data` of what a caller is likely to have.

    Taken are `Data` as it is; four tensors (x, y, x_test, y_test); two tensors (x, y), which are
    then tested on as well, and `note` says so; and two Datasets or two sources of examples
    (train, test). `classes` names the labels where the parts do not. Raises `DataError` for anything
    else, or parts that do not fit together.
    """
    if isinstance(obj, Data):
        return obj
    parts: tuple[Any, ...] = tuple(obj) if isinstance(obj, tuple | list) else ()
    if len(parts) in (2, 4) and all(isinstance(part, Tensor) for part in parts):
        if len(parts) == 4:
            return from_tensors(*parts, classes=classes)
        only = _training("tensors", *parts, classes=classes)
        note = f"{len(only):,} examples given as tensors; no test set given, tested on the same"
        return Data("tensors", only, only, only.classes, note)
    if len(parts) == 2 and all(isinstance(part, ExampleSource) for part in parts):
        train, test = parts
    elif len(parts) == 2 and all(isinstance(part, Dataset) for part in parts):
        train = DatasetExamples(parts[0], classes=classes)
        named = classes is not None or not hasattr(parts[1], "classes")
        test = DatasetExamples(parts[1], classes=train.classes if named else None)
    else:
        given = ", ".join(type(part).__name__ for part in parts)
        raise DataError(
            "data must be Data, tensors (x, y) or (x, y, x_test, y_test), or two map-style "
            f"Datasets (train, test); got {type(obj).__name__}{f' of ({given})' if given else ''}"
        )
    note = f"{len(train):,} + {len(test):,} examples of {type(parts[0]).__name__}"
    return Data(type(parts[0]).__name__, train, test, note=note)


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
