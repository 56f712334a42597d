"""Pictures of nothing: smooth random colours, for a teacher to look at where there are no pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..errors import SettingsError
from .augmentation import Augmentation
from .examples import Examples

# pixels between two drawn colours, measured on pictures of 32 pixels against 1
_GRAIN = 4


def noise(
    count: int,
    shape: tuple[int, int, int],  # (channels, height, width)
    *,
    grain: int = _GRAIN,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Examples:
    """Draw `count` pictures whose colours are even on [0, 1] at every `grain`-th pixel, bicubic between.

    Labels are 0 and mean nothing. `mean` and `std` are the teacher's, of pixels in [0, 1]. Raises
    `SettingsError` for sizes below 1.
    """
    if min(count, grain, *shape) < 1:
        raise SettingsError(f"noise: count {count}, grain {grain} and shape {shape} are 1 or more")
    channels, *size = shape
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, *(max(1, side // grain) for side in size), generator=draw)
    fine = F.interpolate(coarse, size, mode="bicubic") if grain > 1 else coarse
    images = (255 * fine.clamp(0, 1)).to(torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    return Examples(
        images, labels, mean=mean, std=std, augmentation=augmentation, classes=("unlabelled",)
    )
