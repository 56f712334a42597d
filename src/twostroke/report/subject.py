"""The image that is explained: as it is shown, and as the network takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import Data, ExampleSource, PictureToTensor
from ..errors import SettingsError

_MEAN = "the mean pixel of the training images"
_PREPARED = "a pixel that is 0 after preprocessing"


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


def from_file(file: Path, to_tensor: PictureToTensor) -> Subject:
    """An image file as a network takes it; raises what `PictureToTensor` raises."""
    pixels = to_tensor.pixels(file)
    zero = _MEAN if to_tensor.preprocess == "none" else _PREPARED
    return Subject(file.name, pixels / 255, to_tensor.batch(pixels[None])[0], zero)


def from_example(data: Data, index: int, taken: ExampleSource) -> Subject:
    """An example of the test set, shown as `data` has it, and read as `taken` has it, for the network.

    Raises `SettingsError` for an index that the test set does not have.
    """
    if not 0 <= index < len(data.test):
        raise SettingsError(
            f"--index {index}: the test set of {data.name} has the examples 0 to {len(data.test) - 1:,}"
        )
    one = torch.tensor([index])
    shown, y = data.test.batch(one)
    x, _ = taken.batch(one)
    test: Any = data.test  # every set that has a name keeps them
    mean, std = (t.cpu()[:, None, None] for t in (test.mean, test.std))
    zero = _MEAN if getattr(taken, "mean", mean).any() else _PREPARED
    name = f"{data.name}, test example {index}"
    return Subject(name, shown[0].cpu() * std + mean, x[0].cpu(), zero, data.classes[int(y[0])])
