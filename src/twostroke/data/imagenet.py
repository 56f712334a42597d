"""ImageNet (ILSVRC2012) as torchvision lays it out, or any folder of that form."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import DataError
from .bundle import Data
from .imagenet_archives import ARCHIVES, SPLITS, unfinished, unpack
from .picture_files import find_pictures, look_over, passed_over
from .pictures import Pictures


def load_imagenet(root: Path, *, augment: bool = False, size: int = 224) -> Data:
    """Read ROOT/train/WNID/*.JPEG and ROOT/val/WNID/*.JPEG, or the same below ROOT/imagenet.

    Where a split is missing or only half unpacked and the archives are there, they are unpacked
    first, which takes an hour. Classes are the folders in the order of their names, as torchvision's
    weights number them. `augment` gives the training set random resized crops and mirroring.

    The beginning of every file is looked at once, and that all were good is kept in a file beside the
    splits; see `look_over`.

    Raises:
        DataError: neither folders nor archives, a split or a class that is missing or empty, one
            class only, files that are not pictures; the text lists what is expected where, or names
            the first files.
    """
    place = _place(root)
    for split in SPLITS:
        fault = unfinished(place, split)
        if fault is not None:
            lacking = [name for name in SPLITS[split] if not (place / name).is_file()]
            if lacking:
                raise DataError(
                    f"{fault}, and to unpack it {place} lacks {' and '.join(lacking)}. "
                    f"{_expected(place)}"
                )
            unpack(place, split)
    (train, others), (val, others_val) = (find_pictures(place / split) for split in SPLITS)
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
    look_over(sources[0].files + sources[1].files, place / ".twostroke-looked-over")
    note = f"{len(sources[0]):,} + {len(sources[1]):,} pictures of {len(classes)} ImageNet classes"
    note += passed_over(others + others_val)
    return Data("imagenet", sources[0], sources[1], classes, note)


def _place(root: Path) -> Path:
    """ROOT or ROOT/imagenet: the one with both splits, else with an archive, else with a split."""
    places = [root, root / "imagenet"]
    for test in (
        lambda place: all((place / split).is_dir() for split in SPLITS),
        lambda place: any((place / name).is_file() for name in ARCHIVES),
        lambda place: any((place / split).is_dir() for split in SPLITS),
    ):
        for place in places:
            if test(place):
                return place
    raise DataError(("" if root.is_dir() else f"{root}: no such folder. ") + _expected(root))


def _expected(root: Path) -> str:
    archives = "".join(f"\n  {root / name}  MD5 {md5}" for name, md5 in ARCHIVES.items())
    return (
        f"ImageNet cannot be downloaded by programs. Put pictures into\n  {root}/train/WNID/*.JPEG\n"
        f"  {root}/val/WNID/*.JPEG\nor the three archives from image-net.org:{archives}\nAnother "
        "folder is named by --data-root; folder:PATH takes pictures of your own"
    )
