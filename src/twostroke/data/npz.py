"""A data set in one .npz file of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .bundle import Data, from_tensors

KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path) -> Data:
    """Read x_train, y_train, x_test, y_test and, if there, classes.

    Images and labels are as `from_tensors` takes them, classes strings. Raises `DataError`, which names the
    file and the key or set, if there is no such file, it is not an .npz file or truncated, a key is missing,
    or an array has a wrong shape or type or holds objects.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy's readers raise errors of many kinds
        raise DataError(f"{path} is not an .npz file, or is truncated: {error}") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds a single array; save several with np.savez(path, x_train=…)")
    with archive:
        missing = [key for key in KEYS if key not in archive]
        if missing:
            raise DataError(
                f"{path} has no array {', '.join(missing)}; it holds {', '.join(archive) or 'none'}"
            )
        arrays = {key: _read(archive, key, path) for key in (*KEYS, "classes") if key in archive}
    classes = None
    if "classes" in arrays:
        if arrays["classes"].dtype.kind != "U" or arrays["classes"].ndim != 1:
            raise DataError(f"{path}: classes must be a row of strings, got {arrays['classes']!r}")
        classes = tuple(str(name) for name in arrays["classes"])
    x, y, x_test, y_test = (arrays[key] for key in KEYS)
    note = f"{len(x):,} + {len(x_test):,} images of {path.name}"
    return from_tensors(x, y, x_test, y_test, classes=classes, name=f"npz:{path}", note=note)


def _read(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[key]
    except Exception as error:  # as above
        raise DataError(f"{path}: {key} cannot be read: {error}") from error
    return array
