"""Network in Network (Lin et al. 2013, arXiv 1312.4400), as published for four data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import SettingsError
from .blocks import conv, convolutions, require_positive, require_probability, zero_bias


@dataclass(frozen=True)
class Plan:
    """Kernels and widths of the three mlpconv layers, and how the weights start.

    A row of `widths` is one mlpconv: a `kernel` convolution and two 1x1 convolutions. The last
    width of all is the number of classes. `stds` are those of the first convolutions; all others
    start with `STD`.
    """

    kernels: tuple[int, int, int]
    widths: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int]]
    stds: tuple[float, ...] = ()


STD = 0.05

_CIFAR = ((192, 160, 96), (192, 192, 192), (192, 192))

PLANS = {
    "mnist": Plan((5, 5, 5), ((96, 64, 48), (128, 96, 48), (128, 96))),
    "svhn": Plan((5, 5, 5), ((128, 96, 64), (320, 256, 128), (384, 256))),
    "cifar10": Plan((5, 5, 3), _CIFAR),
    "cifar100": Plan((5, 5, 3), _CIFAR, stds=(0.001, 0.01, 0.01)),
}


class NIN(nn.Module):
    """Network in Network: (batch, in_channels, height, width) to logits (batch, classes).

    Three mlpconv layers (a convolution and two 1x1 convolutions, all padded to keep the size);
    3x3 max pooling of stride 2 and dropout after the first two; global average pooling after the
    third. Height and width may be any from 4 upwards; published are 28 for MNIST, else 32.

    `final_relu=True` is the original: every convolution is followed by a ReLU, the last included,
    so that no logit is negative. A class whose logits are all zero gets no gradient any more, which
    steps that are too large do to some within an epoch: train it with clipped gradients.

    Weights start as published: normal, mostly of std 0.05, and zero bias. That is small, and counts
    on inputs of the published scale, which for MNIST is pixels of 0 to 255: on images of unit
    variance "mnist" starts with logits near zero and may never leave chance level.

    Raises `SettingsError` if `variant` is unknown, `classes` or `in_channels` is below 1, or `dropout` is
    outside [0, 1).
    """

    def __init__(
        self,
        variant: Literal["mnist", "svhn", "cifar10", "cifar100"] = "cifar10",
        *,
        in_channels: int = 3,
        classes: int = 10,
        dropout: float = 0.5,
        final_relu: bool = True,
    ) -> None:
        super().__init__()
        if variant not in PLANS:
            raise SettingsError(f"variant must be one of {', '.join(PLANS)}, not {variant!r}")
        require_positive(in_channels=in_channels, classes=classes)
        require_probability(dropout=dropout)

        plan = PLANS[variant]
        first, second, last = plan.widths
        kernel1, kernel2, kernel3 = plan.kernels
        self.mlpconv1 = _mlpconv(in_channels, first, kernel1)
        self.reduce1 = _reduce(dropout)
        self.mlpconv2 = _mlpconv(first[-1], second, kernel2)
        self.reduce2 = _reduce(dropout)
        self.mlpconv3 = _mlpconv(second[-1], (*last, classes), kernel3, final_relu)

        layers = convolutions(self)
        stds = plan.stds + (STD,) * (len(layers) - len(plan.stds))
        for layer, std in zip(layers, stds, strict=True):
            nn.init.normal_(layer.weight, std=std)
            zero_bias(layer)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, classes)
        """Return the logits."""
        z = self.reduce1(self.mlpconv1(x))
        z = self.reduce2(self.mlpconv2(z))
        return torch.mean(self.mlpconv3(z), (2, 3))


def _mlpconv(
    in_channels: int, widths: tuple[int, int, int], kernel: int, final_relu: bool = True
) -> nn.Sequential:
    first, second, third = widths
    return nn.Sequential(
        *conv(in_channels, first, kernel),
        *conv(first, second, 1),
        *conv(second, third, 1, relu=final_relu),
    )


def _reduce(dropout: float) -> nn.Sequential:
    # ceil mode, as in the original: 28 → 14 → 7, 32 → 16 → 8
    return nn.Sequential(nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.Dropout(dropout))
