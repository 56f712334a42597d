"""Picture files in class folders: found, opened, and checked before anything is trained."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = frozenset({"1", "L"})
_COLOUR = frozenset({"P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_TAIL = 16  # bytes in which the end is looked for: some writers add a few
_THREADS = 16  # they wait for the disk, or for a file server
_TOGETHER = 256  # files that a thread takes at a time: there may be a million
_SHOWN = 5


@dataclass(frozen=True)
class Split:
    """The pictures of one split in the order of classes, folders and names, each with its label.

    `others` counts the files that are not pictures, by kind.
    """

    folder: Path
    classes: tuple[str, ...]
    files: list[Path]
    labels: list[int]
    others: Counter[str]


def find_pictures(folder: Path) -> list[Path]:
    """Pictures at any depth below a folder, in the order of their paths.

    Files and folders whose name begins with a dot are left out. Raises `DataError` where there is no picture.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS  # it takes long to import

    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMG_EXTENSIONS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not files:
        raise DataError(f"{folder} has no pictures ({', '.join(sorted(IMG_EXTENSIONS))})")
    return files


def find_splits(*folders: Path) -> list[Split]:
    """Find the pictures FOLDER/CLASS/*, at any depth below their class, of a data set's splits.

    Pictures are told by their suffix. Files and folders whose name begins with a dot are left out.
    Raises `DataError` if a split has no class folder, a class no pictures, or splits differ in classes.
    """
    splits = [_find(folder) for folder in folders]
    lacking = [
        f"{split.folder} lacks {name}"
        for split in splits
        for name in sorted({name for other in splits for name in other.classes})
        if name not in split.classes
    ]
    if lacking:
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise DataError(
            f"all splits need the same class folders: {'; '.join(lacking[:_SHOWN])}{more}"
        )
    return splits


def _find(split: Path) -> Split:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset  # it takes long to import

    entries = [entry for entry in split.iterdir() if not entry.name.startswith(".")]
    classes = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    if not classes:
        raise DataError(f"{split} has no class folders; put pictures in {split}/CLASS/")
    others = Counter({"outside class folders": len(entries) - len(classes)})

    def is_picture(file: str) -> bool:
        if os.sep + "." in file.removeprefix(str(split)):
            return False
        suffix = Path(file).suffix.lower()
        if suffix not in IMG_EXTENSIONS:
            others[suffix or "without a suffix"] += 1
        return suffix in IMG_EXTENSIONS

    numbers = {name: label for label, name in enumerate(classes)}
    found = make_dataset(split, numbers, is_valid_file=is_picture, allow_empty=True)
    for label in sorted(set(numbers.values()) - {label for _, label in found}):
        raise DataError(
            f"class folder {split / classes[label]} has no pictures ({', '.join(sorted(IMG_EXTENSIONS))}); "
            "fill it, or delete it from all splits"
        )
    return Split(split, classes, [Path(file) for file, _ in found], [k for _, k in found], +others)


def passed_over(splits: Sequence[Split]) -> str:
    """What a note says of files that are not pictures: nothing, or "; passed over: 2 .gif"."""
    others = sum((split.others for split in splits), Counter[str]())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(others.items()))
    return f"; passed over: {kinds}" if kinds else ""


@contextmanager
def opened(file: Path) -> Iterator[Image]:
    """A picture with its header read; an error until it is closed becomes one that names the file.

    Raises `DataError` if it is not a picture, is broken, or has more than 8 bits per channel, which
    Pillow would cut off at white.
    """
    import PIL.Image  # here, not above: only pictures need it

    try:
        with PIL.Image.open(file) as image:
            if image.mode not in GREY | _COLOUR:
                raise DataError(
                    f"{file} has pixels of mode {image.mode}; convert it to 8 bits per channel"
                )
            yield image
    except DataError:
        raise
    except Exception as error:  # the decoders raise errors of many kinds
        raise DataError(
            f"{file} is not a picture, or is broken: {error}; replace or delete it"
        ) from error


def check_pictures(files: Sequence[Path]) -> None:
    """Look at every file, so that bad ones show before training.

    Of JPEG the first and the last bytes are read; other kinds are decoded. Damage in the middle of a
    JPEG shows only when it is decoded, if at all. Raises `DataError` with the number and the first few
    of the files that are empty, cut off, not pictures, cannot be read, or have more than 8 bits per channel.
    """
    parts = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        bad = [fault for faults in pool.map(_faults, parts) for fault in faults]
    if bad:
        more = f"\n  and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{len(bad):,} of {len(files):,} picture files cannot be used:"
            + "".join(f"\n  {fault}" for fault in bad[:_SHOWN])
            + more
        )


def _faults(files: Sequence[Path]) -> list[str]:
    return [fault for file in files if (fault := _fault(file))]


def _fault(file: Path) -> str | None:
    try:
        with file.open("rb", buffering=0) as raw:
            head = raw.read(len(_JPEG_BEGIN))
            raw.seek(max(0, raw.seek(0, os.SEEK_END) - _TAIL))
            tail = raw.read(_TAIL)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    if not head:
        return f"{file} is empty; replace or delete it"
    # nearly all of ImageNet, and a JPEG has 8 bits; Pillow takes ten times as long
    if head == _JPEG_BEGIN and _JPEG_END in tail:
        return None
    try:
        with opened(file) as image:
            image.load()
            return None
    except DataError as error:
        return str(error)
