"""ImageNet (ILSVRC2012) as torchvision unpacks it, or any folder of that form."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import DataError
from .augmentation import Augmentation, ResizedCrop
from .bundle import Data
from .decoding import Told, check_pictures, silent
from .picture_files import find_splits, passed_over
from .pictures import CROP, Pictures

SPLITS = ("train", "val")


def load_imagenet(
    root: Path,
    *,
    augmentation: Augmentation | ResizedCrop | None = None,
    size: int = 224,
    crop: float = CROP,
    told: Told = silent,
) -> Data:
    """Read ROOT/train/WNID/*.JPEG and ROOT/val/WNID/*.JPEG, or the same below ROOT/imagenet.

    Classes are the folders in the order of their names, as torchvision's weights number them.
    `augmentation` is the training set's; `size` and `crop` are as `Pictures` takes them. Every file is looked
    at first (`check_pictures`), of which `told` hears. Raises
    `DataError`, which says what is expected where or names the first files, if a split or a class is
    missing, empty or half unpacked, there is only one class, or files are not pictures.
    """
    place = root
    if (root / "imagenet").is_dir() and not any((root / split).is_dir() for split in SPLITS):
        place = root / "imagenet"
    for split in SPLITS:
        if not (place / split).is_dir():
            raise DataError(_missing(place, split))
        left = next((file for file in (place / split).iterdir() if _is_left(file)), None)
        if left is not None:
            raise DataError(
                f"{left} is not in its class folder, so {place / split} is only half unpacked: "
                f"remove {place / split}, and unpack it again"
            )
    train, val = splits = find_splits(*(place / split for split in SPLITS), told=told)
    check_pictures(train.files + val.files, told)
    pictures, test = (
        Pictures(
            split.files,
            torch.tensor(split.labels),
            classes=split.classes,
            size=size,
            crop=crop,
            augmentation=augmentation if split is train else None,
        )
        for split in splits
    )
    note = f"{len(pictures):,} + {len(test):,} pictures of {len(train.classes)} ImageNet classes"
    return Data("imagenet", pictures, test, train.classes, note + passed_over(splits))


def _is_left(file: Path) -> bool:
    """Whether unpacking, when it is interrupted, leaves this behind in a split's folder."""
    return file.suffix == ".tar" or file.match("ILSVRC2012_val_*.JPEG")


def _missing(place: Path, split: str) -> str:
    what = f"{place} has no folder {split}" if place.is_dir() else f"{place}: no such folder"
    return (
        f"{what}. ImageNet cannot be downloaded by programs. Put pictures into\n"
        f"  {place}/train/WNID/*.JPEG\n  {place}/val/WNID/*.JPEG\n"
        f"or put the three archives of image-net.org (devkit, train and val) into {place}\n"
        "and let torchvision unpack them, in about an hour; this needs scipy:\n"
        '  python -c "from torchvision.datasets import ImageNet; '
        f"[ImageNet('{place}', split) for split in {SPLITS}]\"\n"
        "Another folder is named by --data-root; folder:PATH takes pictures of your own"
    )
