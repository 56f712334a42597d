"""The well-known data sets, through torchvision's dataset classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .bundle import Data, from_tensors

DIGITS = tuple("0123456789")

# where a file comes from, where it belongs below the root, and its MD5, as torchvision knows them
_File = tuple[str, str, str]


def _idx_files(cls: Any) -> list[_File]:
    below = f"{cls.__name__}/raw"
    return [(cls.mirrors[0] + name, f"{below}/{name}", md5) for name, md5 in cls.resources]


def _cifar_files(cls: Any) -> list[_File]:
    return [(cls.url, cls.filename, cls.tgz_md5)]


def _svhn_files(cls: Any) -> list[_File]:
    return [tuple(cls.split_list[split]) for split in ("train", "test")]


def _svhn_extra_files(cls: Any) -> list[_File]:
    return [tuple(cls.split_list[split]) for split in ("train", "extra", "test")]


@dataclass(frozen=True)
class VisionSet:
    """How one of torchvision's data sets is read: class, files, layout, class names."""

    title: str
    about: str
    cls: str  # name in torchvision.datasets
    files: Callable[[Any], list[_File]]
    channels_last: bool = False
    classes: tuple[str, ...] | None = None  # None: torchvision's names
    needs: str | None = None  # a package that torchvision needs to read this one
    extra: bool = False  # train on the split "extra" too


VISION = {
    "mnist": VisionSet(
        "MNIST", "handwritten digits, 60,000 + 10,000 of 1 x 28 x 28", "MNIST", _idx_files,
        classes=DIGITS,
    ),
    "fashion-mnist": VisionSet(
        "Fashion-MNIST", "clothes, 60,000 + 10,000 of 1 x 28 x 28", "FashionMNIST", _idx_files
    ),
    "cifar10": VisionSet(
        "CIFAR-10", "photographs of 10 kinds, 50,000 + 10,000 of 3 x 32 x 32", "CIFAR10",
        _cifar_files, channels_last=True,
    ),
    "cifar100": VisionSet(
        "CIFAR-100", "photographs of 100 kinds, 50,000 + 10,000 of 3 x 32 x 32", "CIFAR100",
        _cifar_files, channels_last=True,
    ),
    "svhn": VisionSet(
        "SVHN", "house numbers, 73,257 + 26,032 of 3 x 32 x 32; needs scipy", "SVHN", _svhn_files,
        classes=DIGITS, needs="scipy",
    ),
    "svhn-extra": VisionSet(
        "SVHN with its extra images", "svhn with 531,131 more training images (2 GB); needs scipy",
        "SVHN", _svhn_extra_files, classes=DIGITS, needs="scipy", extra=True,
    ),
}  # fmt: skip


def load_vision(name: str, root: Path, *, download: bool) -> Data:
    """Read the set named `name` (a key of `VISION`) from `root`, fetching it first if need be.

    What is on disk and whole is used as it is, without a look at the network.

    Raises:
        DataError: the files are missing or damaged and could not be fetched; the text lists them,
            with their folder, address and MD5. Or a package that reads them is missing.
    """
    import torchvision.datasets  # here, not above: it takes as long to import as all the rest

    known = VISION[name]
    if known.needs and find_spec(known.needs) is None:
        raise DataError(
            f"{name} needs the package {known.needs}, which reads its .mat files: pip install "
            "'twostroke[svhn]'"
        )
    cls = getattr(torchvision.datasets, known.cls)
    splits = ("train", "extra") if known.extra else ("train",)
    try:
        *train, test = _parts(cls, root, splits, download=False)
    except Exception as first:  # torchvision raises whatever its readers raise
        if not download:
            raise DataError(_by_hand(name, known, cls, root, first)) from first
        try:
            *train, test = _parts(cls, root, splits, download=True)
        except Exception as error:
            raise DataError(_by_hand(name, known, cls, root, error)) from error
    parts = [_tensors(part, known) for part in train]
    x, y = (torch.cat(some) if len(some) > 1 else some[0] for some in zip(*parts, strict=True))
    x_test, y_test = _tensors(test, known)
    for split, images, labels in (("training", x, y), ("test", x_test, y_test)):
        if len(images) != len(labels):
            raise DataError(
                f"{name}: the {split} set has {len(images):,} images and {len(labels):,} labels; the "
                f"two files below {root} are not of one data set: delete them and load it again"
            )
    return from_tensors(
        x,
        y,
        x_test,
        y_test,
        classes=known.classes or tuple(train[0].classes),
        name=name,
        note=f"{len(y):,} + {len(y_test):,} images of {known.title}",
    )


def _parts(cls: Any, root: Path, splits: tuple[str, ...], *, download: bool) -> tuple[Any, ...]:
    """The training splits, and the test set at the end."""
    if hasattr(cls, "split_list"):
        return tuple(cls(root, split=part, download=download) for part in (*splits, "test"))
    return tuple(cls(root, train=part, download=download) for part in (True, False))


def _tensors(dataset: Any, known: VisionSet) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(dataset.data)
    y = torch.as_tensor(np.asarray(getattr(dataset, "targets", getattr(dataset, "labels", None))))
    if x.dim() == 3:
        x = x[:, None]
    elif known.channels_last:
        x = x.permute(0, 3, 1, 2)
    return x.contiguous(), y


def _by_hand(name: str, known: VisionSet, cls: Any, root: Path, error: Exception) -> str:
    wanted = "".join(
        f"\n  {root / below}\n    from {url}, MD5 {md5}" for url, below, md5 in known.files(cls)
    )
    return (
        f"{name} is not in {root}, or is damaged there, and was not fetched "
        f"({type(error).__name__}: {error}). To fetch it by hand, put these files in place, delete "
        f"what was unpacked from damaged ones, and load it again with download allowed; files "
        f"with the right MD5 are unpacked and not fetched again:{wanted}"
    )
