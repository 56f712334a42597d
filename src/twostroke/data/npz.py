"""A data set in one .npz file of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .bundle import Data, from_tensors

KEYS = ("x_train", "y_train", "x_test", "y_test")
_MOST_CHANNELS = 4


def load_npz(path: Path) -> Data:
    """Read x_train, y_train, x_test, y_test and, if there, classes.

    Images are uint8: count x height x width, count x height x width x channels, or count x
    channels x height x width, with at most 4 channels; where both would do, channels come first.
    Labels are integers (count,), classes strings. Raises `DataError`, which names the file and the
    key, if there is no such file, it is not an .npz file or truncated, a key is missing, or an array
    has a wrong shape or type or holds objects.
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
    x, x_test = (_images(arrays[key], f"{path}: {key}") for key in ("x_train", "x_test"))
    y, y_test = (_labels(arrays[key], f"{path}: {key}") for key in ("y_train", "y_test"))
    classes = None
    if "classes" in arrays:
        if arrays["classes"].dtype.kind != "U" or arrays["classes"].ndim != 1:
            raise DataError(f"{path}: classes must be a row of strings, got {arrays['classes']!r}")
        classes = tuple(str(name) for name in arrays["classes"])
    note = f"{len(y):,} + {len(y_test):,} images of {path.name}"
    return from_tensors(x, y, x_test, y_test, classes=classes, name=f"npz:{path}", note=note)


def _read(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[key]
    except Exception as error:  # as above
        raise DataError(f"{path}: {key} cannot be read: {error}") from error
    return array


def _images(array: NDArray[Any], where: str) -> Tensor:
    if array.dtype != np.uint8:
        raise DataError(f"{where} must be uint8 (0 to 255), got {array.dtype}")
    if array.ndim == 3:
        return torch.from_numpy(array)[:, None]
    if array.ndim == 4 and array.shape[1] <= _MOST_CHANNELS:
        return torch.from_numpy(array)
    if array.ndim == 4 and array.shape[3] <= _MOST_CHANNELS:
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
    raise DataError(
        f"{where} must be count x height x width, with up to {_MOST_CHANNELS} channels after count "
        f"or at the end, got {' x '.join(map(str, array.shape))}"
    )


def _labels(array: NDArray[Any], where: str) -> Tensor:
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(
            f"{where} must be a row of integers, got {array.dtype} of shape {array.shape}"
        )
    return torch.from_numpy(array.astype(np.int64))
