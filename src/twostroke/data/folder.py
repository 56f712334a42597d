"""A data set in a folder of pictures, one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .bundle import Data, from_tensors

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_GREY = frozenset({"1", "L"})
_COLOUR = frozenset({"P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


def load_folder(path: Path) -> Data:
    """Read PATH/train/CLASS/* and PATH/test/CLASS/* (or PATH/val, if there is no test).

    Pictures are found at any depth below their class, in the order of their names; other files
    are passed over. They become one uint8 tensor: 1 channel if every picture is grey, otherwise 3
    (transparency is dropped).

    Raises:
        DataError: a split or a class is missing or empty, the classes of the two splits differ, a
            picture is broken, of another size than the first, or of more than 8 bits. The text
            names the file or folder.
    """
    splits = [_split(path, "train"), _split(path, "test", "val")]
    found = [find_pictures(split) for split in splits]
    names, names_test = (tuple(by_class) for by_class in found)
    if names != names_test:
        lacking = [f"{splits[0]} lacks {name}" for name in names_test if name not in names]
        lacking += [f"{splits[1]} lacks {name}" for name in names if name not in names_test]
        raise DataError(f"both splits need the same class folders: {'; '.join(lacking)}")
    size, mode = _measure([file for part in found for files in part.values() for file in files])
    (x, y), (x_test, y_test) = (_read(part, size, mode) for part in found)
    note = f"{len(y):,} + {len(y_test):,} images of {path.name} (tested on {splits[1].name})"
    return from_tensors(x, y, x_test, y_test, classes=names, name=f"folder:{path}", note=note)


def _split(path: Path, *names: str) -> Path:
    for name in names:
        if (path / name).is_dir():
            return path / name
    raise DataError(
        f"{path} has no folder {' or '.join(names)}; put pictures in train/CLASS/ and test/CLASS/"
    )


def find_pictures(split: Path) -> dict[str, list[Path]]:
    """Class folders of a split in the order of their names, each with its pictures, likewise.

    Raises:
        DataError: there is no class folder, or one without pictures.
    """
    folders = sorted(
        folder for folder in split.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )
    if not folders:
        raise DataError(f"{split} has no class folders; put pictures in {split}/CLASS/")
    found = {}
    for folder in folders:
        files = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
        if not files:
            raise DataError(
                f"class folder {folder} has no pictures ({', '.join(sorted(SUFFIXES))}); "
                "fill it, or delete it from both splits"
            )
        found[folder.name] = files
    return found


def _measure(files: list[Path]) -> tuple[tuple[int, int], str]:
    """Look at every header: the size (width, height) all have, and the mode that fits them all."""
    size: tuple[int, int] | None = None
    grey = True
    for file in files:
        with _open(file) as image:
            if image.mode not in _GREY | _COLOUR:
                raise DataError(
                    f"{file} has pixels of mode {image.mode}; convert it to 8 bits per channel"
                )
            size = size or image.size
            if image.size != size:
                raise DataError(
                    f"{file} has {image.width} x {image.height} pixels, but {files[0]} has "
                    f"{size[0]} x {size[1]}; resize all pictures to one size first"
                )
            grey &= image.mode in _GREY
    assert size is not None  # every class has a picture
    return size, "L" if grey else "RGB"


def _read(
    found: dict[str, list[Path]],
    size: tuple[int, int],  # (width, height)
    mode: str,
) -> tuple[Tensor, Tensor]:
    files = [(file, label) for label, part in enumerate(found.values()) for file in part]
    x = torch.empty(len(files), 1 if mode == "L" else 3, size[1], size[0], dtype=torch.uint8)
    for row, (file, _) in enumerate(files):
        with _open(file) as image:
            try:
                pixels = np.array(image.convert(mode))
            except Exception as error:  # the decoders raise whatever they stumble over
                raise _broken(file, error) from error
        x[row] = torch.from_numpy(pixels).view(size[1], size[0], -1).permute(2, 0, 1)
    return x, torch.tensor([label for _, label in files])


def _open(file: Path) -> Image:
    from PIL import Image as pillow  # noqa: N813 (here, not above: only pictures need it)

    try:
        return pillow.open(file)
    except Exception as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} is not a picture, or is broken: {error}; replace or delete it")
