"""The image that is explained: as it is shown, and as the network takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import Data
from ..data.decoding import decoded, opened
from ..errors import DataError, SettingsError


@dataclass(frozen=True)
class Subject:
    """One image.

    shown: (channels, height, width), 0 to 1.
    x: (channels, height, width), as the network takes it.
    zero: the pixel that the network takes for 0, in words.
    truth: its label, where it has one.
    """

    name: str
    shown: Tensor
    x: Tensor
    zero: str
    truth: str | None = None


def from_file(file: Path, data: Data) -> Subject:
    """An image file, cut to its centre, and brought to the size and scale of the data's examples.

    Raises `DataError` for a file that is not there or not a picture, `SettingsError` for data whose
    channels no file has.
    """
    import numpy as np
    from PIL import Image, ImageOps

    channels, height, width = data.train.shape
    if channels not in (1, 3):
        raise SettingsError(
            f"the network takes {channels} channels, and a file has 1 or 3: use --index"
        )
    if not file.is_file():
        raise DataError(f"{file}: this file does not exist")
    with opened(file) as image:
        picture = decoded(image, channels)
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    shown = torch.from_numpy(np.array(picture)).view(height, width, channels).permute(2, 0, 1) / 255
    mean, std = _scale(data)
    return Subject(file.name, shown, (shown - mean) / std, "the mean pixel of the training images")


def from_example(data: Data, index: int, taken: Data | None = None) -> Subject:
    """An example of the test set, shown as `data` has it, and read as `taken` has it, preprocessed.

    Raises `SettingsError` for an index that the test set does not have.
    """
    if not 0 <= index < len(data.test):
        raise SettingsError(
            f"--index {index}: the test set of {data.name} has the examples 0 to {len(data.test) - 1:,}"
        )
    one = torch.tensor([index])
    x, y = data.test.batch(one)
    mean, std = _scale(data)
    shown, zero = x[0].cpu() * std + mean, "the mean pixel of the training images"
    if taken is not None:
        x, _ = taken.test.batch(one)
        zero = "a pixel that is 0 after preprocessing"
    name = f"{data.name}, test example {index}"
    return Subject(name, shown, x[0].cpu(), zero, data.classes[int(y[0])])


def _scale(data: Data) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the training images, (channels, 1, 1) each."""
    train: Any = data.train  # every set that has a name keeps them
    return train.mean.cpu()[:, None, None], train.std.cpu()[:, None, None]
