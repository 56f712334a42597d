"""A small all-convolutional net for small images: a real network that trains in seconds on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twostroke.errors import SettingsError

from .blocks import conv, he_init, require_positive

# (channels at width 1, stride) of the 3x3 convolutions
PLAN = ((24, 2), (48, 1), (48, 2), (96, 1))


class Mini(nn.Module):
    """`allcnn-mini`: (batch, in_channels, height, width) to logits (batch, classes).

    Four 3x3 convolutions (`PLAN`), each with batch norm and ReLU, a 1x1 convolution to the classes,
    global average pooling. Neither pooling nor dropout, in the spirit of ALL-CNN, so that its only
    switches are ReLUs. Any height and width will do; it is meant for about 28 to 32.

    `width` multiplies every number of channels but those of input and output. Weights are
    He-initialised.

    Raises:
        SettingsError: `classes` or `in_channels` is below 1, or `width` leaves a layer without
            channels.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        classes: int = 10,
        width: float = 1.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, classes=classes)
        layers: list[nn.Module] = []
        for channels, stride in PLAN:
            out_channels = round(channels * width)
            if out_channels < 1:
                raise SettingsError(f"width {width} leaves a layer of {channels} without channels")
            layers += conv(in_channels, out_channels, 3, stride=stride, batch_norm=batch_norm)
            in_channels = out_channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(in_channels, classes, 1)
        he_init(self)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, classes)
        """Return the logits."""
        return torch.mean(self.classifier(self.features(x)), (2, 3))
