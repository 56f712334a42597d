"""ImageNet's archives: whether a split is all unpacked, and unpacking what is not.

A split is unpacked in a folder of its own, SPLIT.unpacking, which gets the split's name when all is
there; what was interrupted is begun anew. A folder that is called like the split and was not made here is
never written to.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import DataError

ARCHIVES = {  # as torchvision knows them, with their MD5
    "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
}
_DEVKIT, _TRAIN, _VAL = ARCHIVES
SPLITS = {"train": (_TRAIN,), "val": (_DEVKIT, _VAL)}  # and what each is unpacked from


def unfinished(place: Path, split: str) -> str | None:
    """Say why a split is not all unpacked, or None if it is as far as its folders show."""
    folder = place / split
    if not folder.is_dir():
        return f"{place} has no folder {split}"
    if not any(entry.is_dir() for entry in folder.iterdir()):
        return f"{folder} has no class folders"
    left = next(_left(folder), None)
    return None if left is None else f"{folder} is only half unpacked: {left} is not in its class"


def unpack(place: Path, split: str) -> None:
    """Unpack a split from its archives in `place`, by torchvision.

    Raises:
        DataError: something else is in the split's place, an archive is damaged or cannot be read, or
            there is no room.
    """
    from torchvision.datasets import imagenet

    with suppress(OSError):  # an empty folder is in nobody's way
        (place / split).rmdir()
    if (place / split).exists():
        raise DataError(
            f"{unfinished(place, split)}: move {place / split} away, or remove it, to have it unpacked anew "
            "from the archives"
        )
    work = place / f"{split}.unpacking"
    try:
        if work.exists():  # torchvision does not go on with what was interrupted
            shutil.rmtree(work)
        if split == "train":
            imagenet.parse_train_archive(place, folder=work.name)
        else:
            if not (place / imagenet.META_FILE).is_file():
                imagenet.parse_devkit_archive(place)
            imagenet.parse_val_archive(place, folder=work.name)
        work.rename(place / split)
    except Exception as error:  # those of tarfile, torchvision, SciPy and the disk
        raise DataError(
            f"{split} of ImageNet could not be unpacked in {place} ({type(error).__name__}: {error}); "
            "mend that and load it again"
        ) from error


def _left(folder: Path) -> Iterator[Path]:
    """What other programs leave behind when they are interrupted: archives and pictures without a class."""
    for archive in folder.glob("*.tar"):
        pictures = archive.with_suffix("")
        if not pictures.is_dir() or not any(pictures.iterdir()):
            yield archive
    yield from folder.glob("ILSVRC2012_val_*.JPEG")
