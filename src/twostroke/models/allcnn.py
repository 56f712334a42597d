"""ALL-CNN A, B and C, each in its four variants (Springenberg et al. 2014, arXiv 1412.6806)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import SettingsError
from .blocks import conv, he_init, require_positive, require_probability

# kernels of the convolutions of a block; all of a block have the same width
BLOCKS = {"a": (5,), "b": (5, 1), "c": (3, 3)}

# how a block halves its input: what is added to it, or changed in it
VARIANTS = {
    "base": "3x3 max pool of stride 2 after each block",
    "strided": "no pool; the last convolution of each block has stride 2",
    "convpool": "3x3 convolution, then 3x3 max pool of stride 2 after each block",
    "allcnn": "3x3 convolution of stride 2 after each block",
}

WIDTHS = (96, 192)
SMALLEST = 9  # 9 → 5 → 3, which the unpadded 3x3 convolution of the head makes 1


class AllCNN(nn.Module):
    """ALL-CNN: (batch, in_channels, height, width) to logits (batch, classes).

    Two blocks of convolutions (96 and 192 channels), each followed by a reduction to half the
    height and width and by dropout; then a head of 3x3 (unpadded), 1x1 and 1x1 convolutions and
    global average pooling. Height and width may be any from 9 upwards; published is 32.

    `size` "a", "b" or "c" says what the blocks are made of (`BLOCKS`), `variant` how they reduce
    (`VARIANTS`). In size b the convolution that "strided" strides is a 1x1, as published.

    Three choices where sources disagree or are silent:

    * `final_relu=False`: most implementations put a ReLU after the last 1x1 convolution too. Logits
      that cannot be negative die easily (no gradient reaches a class that is off everywhere), so it
      is off unless asked for.
    * Weights are He-initialised with zero bias. PyTorch's own initialisation leaves these nets, which
      have no batch norm, at 90 % error.
    * A max pool is padded by 1, so that its windows lie where those of the strided convolution lie
      and all variants have the same shapes at every input size.

    `batch_norm=True` puts a batch norm between each convolution and its ReLU (not after the logits)
    and takes the bias from these convolutions; it is not in the paper.

    Raises `SettingsError` if `size` or `variant` is unknown, `classes` or `in_channels` is below 1, or a
    dropout rate is outside [0, 1); in the forward pass, if the image is smaller than 9 x 9.
    """

    def __init__(
        self,
        size: Literal["a", "b", "c"] = "c",
        variant: Literal["base", "strided", "convpool", "allcnn"] = "allcnn",
        *,
        in_channels: int = 3,
        classes: int = 10,
        input_dropout: float = 0.2,
        dropout: float = 0.5,
        batch_norm: bool = False,
        final_relu: bool = False,
    ) -> None:
        super().__init__()
        if size not in BLOCKS:
            raise SettingsError(f"size must be one of {', '.join(BLOCKS)}, not {size!r}")
        if variant not in VARIANTS:
            raise SettingsError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        require_positive(in_channels=in_channels, classes=classes)
        require_probability(input_dropout=input_dropout, dropout=dropout)

        narrow, wide = WIDTHS
        self.input_dropout = nn.Dropout(input_dropout)
        self.block1 = _block(size, variant, in_channels, narrow, dropout, batch_norm)
        self.block2 = _block(size, variant, narrow, wide, dropout, batch_norm)
        self.head = nn.Sequential(
            *conv(wide, wide, 3, padding=0, batch_norm=batch_norm),
            *conv(wide, wide, 1, batch_norm=batch_norm),
            *conv(wide, classes, 1, relu=final_relu),
        )
        he_init(self)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, classes)
        """Return the logits."""
        z = self.block2(self.block1(self.input_dropout(x)))
        try:
            z = self.head(z)
        except RuntimeError as error:  # looked into only on failure, so that it costs nothing
            if min(x.shape[-2:]) >= SMALLEST:
                raise
            raise SettingsError(
                f"ALL-CNN needs images of {SMALLEST} x {SMALLEST} or more, "
                f"not {x.shape[-2]} x {x.shape[-1]}"
            ) from error
        return torch.mean(z, (2, 3))


def _block(
    size: str, variant: str, in_channels: int, width: int, dropout: float, batch_norm: bool
) -> nn.Sequential:
    """Return convolutions, reduction and dropout: (batch, in_channels, h, w) to half h and w."""
    kernels_strides = [(kernel, 1) for kernel in BLOCKS[size]]
    if variant == "strided":
        kernels_strides[-1] = (BLOCKS[size][-1], 2)
    elif variant == "convpool":
        kernels_strides.append((3, 1))
    elif variant == "allcnn":
        kernels_strides.append((3, 2))

    layers: list[nn.Module] = []
    for kernel, stride in kernels_strides:
        layers += conv(in_channels, width, kernel, stride=stride, batch_norm=batch_norm)
        in_channels = width
    if variant in ("base", "convpool"):
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers, nn.Dropout(dropout))
