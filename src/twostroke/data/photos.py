"""Pictures without labels, from a folder of any depth, brought to the size that a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import DataError, SettingsError
from .augmentation import Augmentation
from .decoding import Told, silent
from .draws import draw_some
from .examples import Examples
from .picture_files import find_pictures, no_pictures
from .pictures import Pictures


def photos(
    folder: str | Path,
    *,
    size: int,
    count: int | None = None,
    crop: float = 1.0,
    channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    told: Told = silent,
) -> Examples:
    """Read the pictures below `folder` into memory; every label is 0 and means nothing.

    They are found as `find_pictures` does, and cut, resized and normalised as `Pictures` does. `count` draws
    that many by `seed`; None takes all. `told` hears how many are read.

    Raises `DataError` where there is no picture or files are broken, by name, and `SettingsError` for
    channels or a count out of range.
    """
    place = Path(folder)
    if not place.is_dir():
        raise DataError(f"{place}: no such folder")
    files, _ = find_pictures(place)
    if not files:
        raise DataError(no_pictures(place))
    if count is not None:
        if count < 1:
            raise SettingsError(f"the number of pictures is 1 or more, not {count}")
        chosen = draw_some(min(count, len(files)), len(files), seed=seed)
        files = [files[i] for i in chosen.tolist()]
    return Pictures(
        files,
        torch.zeros(len(files), dtype=torch.int64),
        classes=("unlabelled",),
        size=size,
        crop=crop,
        channels=channels,
        mean=mean,
        std=std,
        augmentation=augmentation,
    ).in_memory(told)
