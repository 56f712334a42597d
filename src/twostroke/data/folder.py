"""A data set in a folder of pictures, one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .bundle import Data, from_tensors
from .picture_files import GREY, find_splits, opened, passed_over


def load_folder(path: Path) -> Data:
    """Read PATH/train/CLASS/* and PATH/test/CLASS/* (or PATH/val, if there is no test).

    Pictures are found as `find_splits` does; the note counts other files. They become one uint8
    tensor: 1 channel if every picture is grey, otherwise 3 (transparency is dropped; the note counts
    the grey ones). Raises `DataError`, which names the file or folder, if the folder, a split or a
    class is missing or empty, the splits differ in classes or have only one, or a picture is broken,
    of another size than the first, or of more than 8 bits.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    train, test = splits = find_splits(_split(path, "train"), _split(path, "test", "val"))
    size, grey = _measure(train.files + test.files)
    mode = "L" if len(grey) == len(train.files) + len(test.files) else "RGB"
    x, x_test = (_read(split.files, size, mode) for split in splits)
    y, y_test = (torch.tensor(split.labels) for split in splits)
    note = f"{len(y):,} + {len(y_test):,} images of {path.name} (tested on {test.folder.name})"
    if grey and mode == "RGB":
        counts = " + ".join(f"{len(grey.intersection(split.files)):,}" for split in splits)
        note += f"; {counts} of them are grey, given three equal channels"
    note += passed_over(splits)
    classes, name = train.classes, f"folder:{path}"
    return from_tensors(x, y, x_test, y_test, classes=classes, name=name, note=note)


def _split(path: Path, *names: str) -> Path:
    for name in names:
        if (path / name).is_dir():
            return path / name
    raise DataError(
        f"{path} has no folder {' or '.join(names)}; put pictures in train/CLASS/ and test/CLASS/"
    )


def _measure(files: list[Path]) -> tuple[tuple[int, int], set[Path]]:
    """Read every header: the size (width, height) that all have, and which are grey."""
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
    files: list[Path],
    size: tuple[int, int],  # (width, height)
    mode: str,
) -> Tensor:  # (count, channels, height, width) uint8
    x = torch.empty(len(files), 1 if mode == "L" else 3, size[1], size[0], dtype=torch.uint8)
    for row, file in enumerate(files):
        with opened(file) as image:
            pixels = np.array(image.convert(mode))
        x[row] = torch.from_numpy(pixels).view(size[1], size[0], -1).permute(2, 0, 1)
    return x
