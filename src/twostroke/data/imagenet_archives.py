"""ImageNet's archives: whether a split is all unpacked, and unpacking what is not.

A split is unpacked in a folder of its own, SPLIT.unpacking, which gets the split's name when all is
there. What was interrupted there is gone on with: files that are there in their full size stay. A folder
that is called like the split and was not made here is never written to.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

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
    """Unpack a split from its archives in `place`, or go on with it.

    Raises:
        DataError: something else is in the split's place, an archive is damaged or cannot be read, or
            there is no room.
    """
    from torchvision.datasets.utils import check_integrity

    with suppress(OSError):  # an empty folder is in nobody's way
        (place / split).rmdir()
    if (place / split).exists():
        raise DataError(
            f"{unfinished(place, split)}: move {place / split} away, or remove it, to have it unpacked anew "
            "from the archives"
        )
    for name in SPLITS[split]:
        if not check_integrity(place / name, ARCHIVES[name]):
            raise DataError(
                f"{place / name} is damaged: its MD5 is not {ARCHIVES[name]}; fetch it again"
            )
    work = place / f"{split}.unpacking"
    try:
        work.mkdir(exist_ok=True)
        (_unpack_train if split == "train" else _unpack_val)(place, work)
        work.rename(place / split)
    except Exception as error:  # those of tarfile, torchvision, SciPy and the disk
        raise DataError(
            f"{split} of ImageNet could not be unpacked in {place} ({type(error).__name__}: {error}); "
            "load it again to go on"
        ) from error


def _left(folder: Path) -> Iterator[Path]:
    """What other programs leave behind when they are interrupted: archives and pictures without a class."""
    for archive in folder.glob("*.tar"):
        pictures = archive.with_suffix("")
        if not pictures.is_dir() or not any(pictures.iterdir()):
            yield archive
    yield from folder.glob("ILSVRC2012_val_*.JPEG")


def _unpack_train(place: Path, work: Path) -> None:
    with tarfile.open(place / _TRAIN) as whole:
        for member, content in _files(whole):  # one archive per class
            with tarfile.open(fileobj=content) as archive:
                for picture, pixels in _files(archive):
                    _write(pixels, picture.size, work / _stem(member) / Path(picture.name).name)


def _unpack_val(place: Path, work: Path) -> None:
    from torchvision.datasets import imagenet

    if not (place / imagenet.META_FILE).is_file():
        imagenet.parse_devkit_archive(place)
    _, wnids = imagenet.load_meta_file(place)  # of the pictures in the order of their numbers
    with tarfile.open(place / _VAL) as archive:
        for picture, pixels in _files(archive):
            number = int(_stem(picture).rpartition("_")[2])
            _write(pixels, picture.size, work / wnids[number - 1] / Path(picture.name).name)


def _files(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    for member in archive:
        content = archive.extractfile(member)
        if content is not None:  # as it is for a folder
            yield member, content


def _stem(member: tarfile.TarInfo) -> str:
    return Path(member.name).stem


def _write(content: IO[bytes], size: int, file: Path) -> None:
    if file.is_file() and file.stat().st_size == size:
        return
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as out:
        shutil.copyfileobj(content, out)
