"""Picture files opened, checked, and brought to 8 bits, grey or colour, the right way up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Told = Callable[[str, int, int], None]  # what is being done, how many are done, of how many
Item = TypeVar("Item")
Found = TypeVar("Found")

_GREY = frozenset({"1", "L", "LA", "La"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF: its tag, and the values that swap the sides
_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_TAIL = 16  # bytes in which the end is looked for: some writers add a few
_THREADS = 16  # they wait for the disk, or for a file server
_TOGETHER = 32  # files that a thread takes at a time: there may be a million
_SHOWN = 5


def silent(what: str, done: int, count: int) -> None:
    """Tell nobody how far the work is."""


@contextmanager
def opened(file: Path) -> Iterator[Image]:
    """A picture with its header read; an error until it is closed becomes one that names the file.

    Raises `DataError` if it is not a picture, is broken, or has pixels that are no light: 32 bits, LAB.
    """
    import PIL.Image  # here, not above: only pictures need it

    try:
        # by a file object: read by its name, Pillow 13 garbles plain TIFF that lies on its side
        with file.open("rb") as raw, PIL.Image.open(raw) as image:
            if image.mode not in _GREY | _COLOUR and not _deep(image):
                raise DataError(
                    f"{file} has pixels of mode {image.mode}; convert it to 8 bits per channel"
                )
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except Exception as error:  # the decoders raise errors of many kinds
        raise DataError(
            f"{file} is not a picture, or is broken: {error}; replace or delete it"
        ) from error


def _deep(image: Image) -> bool:
    """Whether pixels are grey of 16 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def decoded(
    image: Image,  # as `opened` gives it
    channels: int,
) -> Image:
    """The picture in mode L (1 channel) or RGB (3), turned as its EXIF says; transparency is dropped.

    Of 16 bits the upper 8 stay.
    """
    from PIL.Image import fromarray
    from PIL.ImageOps import exif_transpose

    exif_transpose(image, in_place=True)
    if _deep(image):
        image = fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")  # else Pillow warns
    return image.convert("L" if channels == 1 else "RGB")


@dataclass(frozen=True)
class Header:
    """A picture as its header tells it: (width, height) the right way up, and what `decoded` changes."""

    size: tuple[int, int]
    grey: bool
    changes: tuple[str, ...]


def header(file: Path) -> Header:
    """Read a picture's header; raises as `opened`."""
    with opened(file) as image:
        lying = turned = False
        if image.format != "PNG" or "exif" in image.info:  # else Pillow would decode it all
            value = image.getexif().get(_ORIENTATION, 1)
            lying, turned = value in _LYING, value in range(2, 9)
        width, height = image.size
        if lying and image.format != "TIFF":  # Pillow turns these itself
            width, height = height, width
        deep = _deep(image) or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        changes = {
            "CMYK": image.mode == "CMYK",
            "with a palette": image.mode in ("P", "PA"),
            "with transparency, which is dropped": image.has_transparency_data,
            "of 16 bits, cut to 8": deep and image.format != "BMP",
            "turned as their EXIF says": turned,
        }
        grey = image.mode in _GREY or _deep(image)
        return Header((width, height), grey, tuple(kind for kind, so in changes.items() if so))


def each(
    work: Callable[[Item], Found], items: Sequence[Item], what: str, told: Told = silent
) -> list[Found]:
    """Do something to every picture, in threads; `what` says what, as in "reading pictures".

    Raises `DataError` with the number and the first few of the pictures of which `work` raises one.
    """

    def some(part: Sequence[Item]) -> list[Found | DataError]:
        found: list[Found | DataError] = []
        for item in part:
            try:
                found.append(work(item))
            except DataError as error:
                found.append(error)
        return found

    results: list[Found] = []
    bad: list[str] = []
    parts = [items[start : start + _TOGETHER] for start in range(0, len(items), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(some, parts):
            for one in part:
                if isinstance(one, DataError):
                    bad.append(str(one))
                else:
                    results.append(one)
            told(what, len(results) + len(bad), len(items))
    if bad:
        more = f"\n  and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{len(bad):,} of {len(items):,} picture files cannot be used:"
            + "".join(f"\n  {fault}" for fault in bad[:_SHOWN])
            + more
        )
    return results


def check_pictures(files: Sequence[Path], told: Told = silent) -> None:
    """Look at every file, so that bad ones show before training.

    Of JPEG the first and the last bytes are read; other kinds are decoded. Damage in the middle of a
    JPEG shows only when it is decoded, if at all. Raises `DataError` with the number and the first few
    of the files that are empty, cut off, not pictures, or cannot be read.
    """
    each(_check, files, "checking pictures", told)


def _check(file: Path) -> None:
    try:
        with file.open("rb", buffering=0) as raw:
            head = raw.read(len(_JPEG_BEGIN))
            raw.seek(max(0, raw.seek(0, os.SEEK_END) - _TAIL))
            tail = raw.read(_TAIL)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    if not head:
        raise DataError(f"{file} is empty; replace or delete it")
    # nearly all of ImageNet, and a JPEG has 8 bits; Pillow takes ten times as long
    if head == _JPEG_BEGIN and _JPEG_END in tail:
        return
    with opened(file) as image:
        image.load()
