"""Picture files in class folders: found, opened, and looked over before anything is trained."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .._files import replacing
from ..errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
GREY = frozenset({"1", "L"})
_COLOUR = frozenset({"P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_LAST = {_JPEG: b"\xff\xd9", _PNG: b"IEND\xaeB`\x82"}  # what a whole one ends with
_TAIL = 16  # bytes in which that is looked for: some writers add a few
_THREADS = 16  # they wait for the disk, or for a file server
_TOGETHER = 256  # files that a thread takes at a time
_SHOWN = 5


def find_pictures(split: Path) -> tuple[dict[str, list[Path]], Counter[str]]:
    """Class folders of a split in the order of their names, each with its pictures, likewise.

    Pictures are told by their suffix, at any depth. What else is there is counted by kind, but for
    names that begin with a dot.

    Raises:
        DataError: there is no class folder, or one without pictures.
    """
    entries = sorted(entry for entry in split.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise DataError(f"{split} has no class folders; put pictures in {split}/CLASS/")
    found: dict[str, list[Path]] = {}
    others: Counter[str] = Counter()
    if len(entries) > len(folders):
        others["outside class folders"] = len(entries) - len(folders)
    for folder in folders:
        files = []
        for file in folder.rglob("*"):
            if file.name.startswith("."):
                continue
            if file.suffix.lower() in SUFFIXES:
                files.append(file)
            elif file.is_file():
                others[file.suffix.lower() or "without a suffix"] += 1
        if not files:
            raise DataError(
                f"class folder {folder} has no pictures ({', '.join(sorted(SUFFIXES))}); "
                "fill it, or delete it from both splits"
            )
        found[folder.name] = sorted(files)
    return found, others


def passed_over(others: Counter[str]) -> str:
    """What a note says of files that are no pictures: nothing, or "; passed over: 2 .gif"."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(others.items()))
    return f"; passed over: {kinds}" if kinds else ""


@contextmanager
def opened(file: Path) -> Iterator[Image]:
    """A picture with its header read; whatever goes wrong until it is closed is said of the file.

    Raises:
        DataError: not a picture, a broken one, or one of more than 8 bits per channel, which
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
    except Exception as error:  # the decoders raise whatever they stumble over
        raise DataError(
            f"{file} is not a picture, or is broken: {error}; replace or delete it"
        ) from error


def look_over(files: Sequence[Path], good: Path) -> None:
    """Read the first and the last bytes of every file, so that bad ones show before training.

    JPEG and PNG that do not end as they should, and all other kinds, are decoded. Damage within a file
    shows only when it is decoded, if at all. That all are good is kept in the file `good`, for as long
    as none changes its size or time; where it cannot be written, every call looks anew.

    Raises:
        DataError: files that are empty, cut off, cannot be read, are not pictures or have more than 8
            bits per channel: how many, and the first few by name.
    """
    parts = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        state = hashlib.sha256(b"first and last bytes\n")
        for lines in pool.map(_states, parts):
            state.update(lines)
        with suppress(OSError):
            if good.read_bytes() == state.hexdigest().encode():
                return
        bad = [fault for faults in pool.map(_faults, parts) for fault in faults]
    if bad:
        more = f"\n  and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{len(bad):,} of {len(files):,} picture files cannot be used:"
            + "".join(f"\n  {fault}" for fault in bad[:_SHOWN])
            + more
        )
    with suppress(OSError), replacing(good) as partial:  # data may lie where nobody writes
        partial.write_text(state.hexdigest())


def _states(files: Sequence[Path]) -> bytes:
    return b"".join(_state(file) for file in files)


def _state(file: Path) -> bytes:
    try:
        stat = file.stat()
    except OSError:  # a link to nowhere, which is then among the faults
        return os.fsencode(file) + b" gone\n"
    return os.fsencode(file) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode()


def _faults(files: Sequence[Path]) -> list[str]:
    return [fault for file in files if (fault := _fault(file))]


def _fault(file: Path) -> str | None:
    try:
        with file.open("rb", buffering=0) as raw:
            head = raw.read(len(_PNG))
            raw.seek(max(0, raw.seek(0, os.SEEK_END) - _TAIL))
            tail = raw.read(_TAIL)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    if not head:
        return f"{file} is empty; replace or delete it"
    whole = any(head.startswith(first) and last in tail for first, last in _LAST.items())
    # nearly all of ImageNet, and a JPEG has 8 bits; Pillow takes ten times as long
    if whole and head.startswith(_JPEG):
        return None
    try:
        with opened(file) as image:
            if not whole:
                image.load()
            return None
    except DataError as error:
        return str(error)
