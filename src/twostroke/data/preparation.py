"""How images become the input of a network that is trained already."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from .examples import Examples, ExampleSource
from .pictures import CROP, Pictures


@dataclass(frozen=True)
class Preparation:
    """What weights want of images.

    shape: of an image, (channels, height, width); None where it is not known.
    mean, std: by channel, of pixels in [0, 1]; None where that is not known, or images are prepared otherwise.
    crop: the part of a picture's shorter side that is seen.
    """

    shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: float = CROP

    @property
    def size(self) -> int | None:
        """Side of a square image, if it is one."""
        return self.shape[1] if self.shape and self.shape[1] == self.shape[2] else None

    def channels(self, own: int) -> int:
        """1 or 3, where weights of a network for pictures say so, else `own`."""
        return self.shape[0] if self.shape and self.shape[0] in (1, 3) else own

    def options(self) -> dict[str, Any]:
        """As `Pictures` takes them."""
        return {"crop": self.crop, "mean": self.mean, "std": self.std}

    def of(self, source: ExampleSource) -> ExampleSource:
        """The source with this normalisation; as it is where that is not known, or it has none to change."""
        if self.mean is None or self.std is None or source.shape[0] != len(self.mean):
            return source
        if not isinstance(source, Pictures | Examples):
            return source
        other = copy.copy(source)
        other.mean, other.std = (
            torch.tensor(t, device=source.device, dtype=torch.float32)
            for t in (self.mean, self.std)
        )
        return other
