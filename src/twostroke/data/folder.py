"""A data set in a folder of pictures, one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .bundle import Data, from_tensors
from .picture_files import GREY, find_pictures, opened, passed_over


def load_folder(path: Path) -> Data:
    """Read PATH/train/CLASS/* and PATH/test/CLASS/* (or PATH/val, if there is no test).

    Pictures are found at any depth below their class, in the order of their names; other files
    are passed over, and the note counts them. Pictures become one uint8 tensor: 1 channel if every
    one is grey, otherwise 3 (transparency is dropped; the note counts the grey ones).

    Raises:
        DataError: the folder, a split or a class is missing or empty, the classes of the two splits
            differ or are only one, a picture is broken, of another size than the first, or of more
            than 8 bits. The text names the file or folder.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    splits = [_split(path, "train"), _split(path, "test", "val")]
    (train, others), (test, others_test) = (find_pictures(split) for split in splits)
    names, names_test = tuple(train), tuple(test)
    if names != names_test:
        lacking = [f"{splits[0]} lacks {name}" for name in names_test if name not in names]
        lacking += [f"{splits[1]} lacks {name}" for name in names if name not in names_test]
        raise DataError(f"both splits need the same class folders: {'; '.join(lacking)}")
    files = [[file for part in found.values() for file in part] for found in (train, test)]
    size, grey = _measure(files[0] + files[1])
    counts = [sum(file in grey for file in part) for part in files]
    mode = "L" if len(grey) == len(files[0]) + len(files[1]) else "RGB"
    (x, y), (x_test, y_test) = (_read(found, size, mode) for found in (train, test))
    note = f"{len(y):,} + {len(y_test):,} images of {path.name} (tested on {splits[1].name})"
    if grey and mode == "RGB":
        note += f"; {counts[0]:,} + {counts[1]:,} of them are grey, given three equal channels"
    note += passed_over(others + others_test)
    return from_tensors(x, y, x_test, y_test, classes=names, name=f"folder:{path}", note=note)


def _split(path: Path, *names: str) -> Path:
    for name in names:
        if (path / name).is_dir():
            return path / name
    raise DataError(
        f"{path} has no folder {' or '.join(names)}; put pictures in train/CLASS/ and test/CLASS/"
    )


def _measure(files: list[Path]) -> tuple[tuple[int, int], set[Path]]:
    """Look at every header: the size (width, height) that all have, and which are grey."""
    size: tuple[int, int] | None = None
    grey = set()
    for file in files:
        with opened(file) as image:
            size = size or image.size
            if image.size != size:
                raise DataError(
                    f"{file} has {image.width} x {image.height} pixels, but {files[0]} has "
                    f"{size[0]} x {size[1]}; resize all pictures to one size first"
                )
            if image.mode in GREY:
                grey.add(file)
    assert size is not None  # every class has a picture
    return size, grey


def _read(
    found: dict[str, list[Path]],
    size: tuple[int, int],  # (width, height)
    mode: str,
) -> tuple[Tensor, Tensor]:
    files = [(file, label) for label, part in enumerate(found.values()) for file in part]
    x = torch.empty(len(files), 1 if mode == "L" else 3, size[1], size[0], dtype=torch.uint8)
    for row, (file, _) in enumerate(files):
        with opened(file) as image:
            pixels = np.array(image.convert(mode))
        x[row] = torch.from_numpy(pixels).view(size[1], size[0], -1).permute(2, 0, 1)
    return x, torch.tensor([label for _, label in files])
