"""The well-known data sets, through torchvision's dataset classes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .bundle import Data, from_tensors
from .vision_files import VisionFile, faults, vision_files

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class VisionSet:
    """How one of torchvision's data sets is named and read."""

    title: str
    about: str
    cls: str  # name in torchvision.datasets
    classes: tuple[str, ...] | None = None  # None: torchvision's names
    splits: tuple[str, ...] = ()  # SVHN's, the test set last; others have train and test


_PHOTOGRAPHS = "photographs of {} kinds, 50,000 + 10,000 of 3 x 32 x 32"

VISION = {
    "mnist": VisionSet(
        "MNIST", "handwritten digits, 60,000 + 10,000 of 1 x 28 x 28", "MNIST", DIGITS
    ),
    "fashion-mnist": VisionSet(
        "Fashion-MNIST", "clothes, 60,000 + 10,000 of 1 x 28 x 28", "FashionMNIST"
    ),
    "cifar10": VisionSet("CIFAR-10", _PHOTOGRAPHS.format(10), "CIFAR10"),
    "cifar100": VisionSet("CIFAR-100", _PHOTOGRAPHS.format(100), "CIFAR100"),
    "svhn": VisionSet(
        "SVHN", "house numbers, 73,257 + 26,032 of 3 x 32 x 32; needs scipy", "SVHN", DIGITS,
        ("train", "test"),
    ),
    "svhn-extra": VisionSet(
        "SVHN with its extra images", "svhn with 531,131 more training images (2 GB); needs scipy",
        "SVHN", DIGITS, ("train", "extra", "test"),
    ),
}  # fmt: skip


def load_vision(name: str, root: Path, *, download: bool) -> Data:
    """Read the set named `name` (a key of `VISION`) from `root`, fetching it first if need be.

    What is on disk and whole is used as it is, and the network is not asked. Raises `DataError` if a
    package that reads the files is missing, or files are missing or damaged and could not be fetched;
    the text lists these, with what is wrong, their address and MD5.
    """
    import torchvision.datasets  # here, not above: it takes as long to import as all the rest

    known = VISION[name]
    if known.splits and find_spec("scipy") is None:
        raise DataError(
            f"{name} needs the package scipy, which reads its .mat files: pip install 'twostroke[svhn]'"
        )
    cls = getattr(torchvision.datasets, known.cls)
    files = vision_files(cls, known.splits)
    try:
        *train, test = _parts(cls, root, known.splits, download=False)
    except Exception as first:  # torchvision's readers raise errors of many kinds
        if not download:
            raise DataError(_by_hand(name, files, root, first, download)) from first
        try:
            *train, test = _parts(cls, root, known.splits, download=True)
        except Exception as error:
            raise DataError(_by_hand(name, files, root, error, download)) from error
    parts = [_tensors(part) for part in train]
    x, y = (torch.cat(some) if len(some) > 1 else some[0] for some in zip(*parts, strict=True))
    x_test, y_test = _tensors(test)
    classes = known.classes or tuple(train[0].classes)
    note = f"{len(y):,} + {len(y_test):,} images of {known.title}"
    try:
        return from_tensors(x, y, x_test, y_test, classes=classes, name=name, note=note)
    except DataError as error:
        raise DataError(
            f"{error}: the files of {name} in {root} do not belong together; delete them and load it again"
        ) from error


def _parts(cls: Any, root: Path, splits: tuple[str, ...], *, download: bool) -> tuple[Any, ...]:
    """The training sets, and the test set at the end."""
    if splits:
        return tuple(cls(root, split=split, download=download) for split in splits)
    return tuple(cls(root, train=train, download=download) for train in (True, False))


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(dataset.data)
    y = torch.as_tensor(np.asarray(getattr(dataset, "targets", getattr(dataset, "labels", None))))
    if x.dim() == 3:  # MNIST's have no channels
        x = x[:, None]
    elif x.shape[3] == 3:  # CIFAR's channels are last
        x = x.permute(0, 3, 1, 2)
    return x.contiguous(), y


def _by_hand(
    name: str, files: list[VisionFile], root: Path, error: Exception, download: bool
) -> str:
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    wrong = [fault for file in files for fault in faults(file, root)]
    if not wrong:
        return f"{name}: its files in {root} seem whole, but cannot be read ({said})"
    again = "load it again" + ("" if download else " with download=True")
    return (
        f"{name} cannot be read from {root}:"
        + "".join(f"\n  {fault}" for fault in wrong)
        + (f"\nAn attempt to fetch and read it ended with {said}" if download else "")
        + "\nTo mend it by hand, delete what is damaged, put what is missing in place, and "
        f"{again}: files with the right MD5 are unpacked, not fetched again"
    )
