"""Pictures without labels, from a folder of any depth, brought to the size that a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import DataError, SettingsError
from .augmentation import Augmentation
from .draws import draw_some
from .examples import Examples
from .picture_files import check_pictures, find_pictures
from .pictures import MEAN, STD, Pictures


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
) -> Examples:
    """Read the pictures below `folder` into memory; every label is 0 and means nothing.

    Of each picture the middle square is taken, `crop` times the shorter side, and resized to `size`
    pixels. `channels` is 3, or 1 for grey. Pixels in [0, 1] become (p - mean) / std, by default with
    those of ImageNet (grey: 0 and 1). `count` draws that many pictures by `seed`; None takes all. Files and
    folders whose name begins with a dot are left out.

    Raises `DataError` where there is no picture or a file is broken, by name, and `SettingsError` for
    channels or a count out of range.
    """
    place = Path(folder)
    if not place.is_dir():
        raise DataError(f"{place}: no such folder")
    if channels not in (1, 3):
        raise SettingsError(f"pictures have 3 channels, or 1 where they are grey, not {channels}")
    files = find_pictures(place)
    if count is not None:
        if count < 1:
            raise SettingsError(f"the number of pictures is 1 or more, not {count}")
        chosen = draw_some(min(count, len(files)), len(files), seed=seed)
        files = [files[i] for i in chosen.sort().values.tolist()]
    check_pictures(files)
    labels = torch.zeros(len(files), dtype=torch.int64)
    raw = Pictures(files, labels, classes=("unlabelled",), size=size, crop=crop)
    x = raw.pixels(torch.arange(len(files))).permute(0, 3, 1, 2)
    usual: tuple[Sequence[float], Sequence[float]] = (MEAN, STD)
    if channels == 1:
        x, usual = x.float().mean(1, keepdim=True).round().byte(), ((0.0,), (1.0,))
    return Examples(
        x.contiguous(),
        labels,
        mean=usual[0] if mean is None else mean,
        std=usual[1] if std is None else std,
        augmentation=augmentation,
        classes=("unlabelled",),
    )
