"""ImageNet (ILSVRC2012) as torchvision lays it out, or any folder of that form."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import DataError
from .bundle import Data
from .folder import find_pictures
from .pictures import Pictures

ARCHIVES = {  # what torchvision unpacks, with the MD5 that it expects
    "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
}


def load_imagenet(root: Path, *, augment: bool = False, size: int = 224) -> Data:
    """Read ROOT/train/WNID/*.JPEG and ROOT/val/WNID/*.JPEG, or the same below ROOT/imagenet.

    Where only the three archives are there, torchvision unpacks them first, which takes an hour.
    Classes are the folders in the order of their names, as torchvision's weights number them.
    `augment` gives the training set random resized crops and mirroring.

    Raises:
        DataError: neither folders nor archives, a split or a class that is missing or empty; the text
            lists what is expected where.
    """
    places = [root, root / "imagenet"]
    place = next((p for p in places if (p / "train").is_dir() or (p / "val").is_dir()), None)
    if place is None:
        place = next((p for p in places if all((p / name).exists() for name in ARCHIVES)), None)
        if place is None:
            raise DataError(_expected(root))
        _unpack(place)
    found = []
    for split in ("train", "val"):
        if not (place / split).is_dir():
            raise DataError(f"{place} has no folder {split}; {_expected(root)}")
        found.append(find_pictures(place / split))
    train, val = found
    if list(train) != list(val):
        lacking = [f"val lacks {name}" for name in train if name not in val]
        lacking += [f"train lacks {name}" for name in val if name not in train]
        raise DataError(
            f"{place}: both splits need the same class folders: {'; '.join(lacking[:5])}"
        )
    classes = tuple(train)
    sources = []
    for by_class, drawn in ((train, augment), (val, False)):
        files = [file for part in by_class.values() for file in part]
        labels = torch.tensor([k for k, part in enumerate(by_class.values()) for _ in part])
        sources.append(Pictures(files, labels, classes=classes, size=size, augment=drawn))
    note = f"{len(sources[0]):,} + {len(sources[1]):,} pictures of {len(classes)} ImageNet classes"
    return Data("imagenet", sources[0], sources[1], classes, note)


def _unpack(place: Path) -> None:
    import torchvision.datasets

    try:
        for split in ("train", "val"):
            torchvision.datasets.ImageNet(place, split=split)
    except Exception as error:  # torchvision raises whatever its readers raise
        raise DataError(
            f"the archives of ImageNet in {place} could not be unpacked "
            f"({type(error).__name__}: {error}); {_expected(place)}"
        ) from error


def _expected(root: Path) -> str:
    archives = "".join(f"\n  {root / name}  MD5 {md5}" for name, md5 in ARCHIVES.items())
    return (
        f"ImageNet cannot be downloaded by programs. Put pictures into\n  {root}/train/WNID/*.JPEG\n"
        f"  {root}/val/WNID/*.JPEG\nor the three archives from image-net.org:{archives}\nAnother "
        "folder is named by --data-root; folder:PATH takes pictures of your own"
    )
