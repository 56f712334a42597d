"""A small all-convolutional net for small images: a real network that trains in seconds on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingsError
from .blocks import conv, he_init, require_positive

# channels at width 1, stride and padding of the 3x3 convolutions: 28 → 14 → 14 → 7 → 5 → 3
PLAN = ((24, 2, 1), (32, 1, 1), (64, 2, 1), (64, 1, 0), (64, 1, 0))
SMALLEST = 17  # 17 → 9 → 9 → 5 → 3 → 1


class Mini(nn.Module):
    """`allcnn-mini`: (batch, in_channels, height, width) to logits (batch, classes).

    Five 3x3 convolutions (`PLAN`), each with batch norm and ReLU, a 1x1 convolution to the classes,
    global average pooling. Neither max pooling nor dropout, in the spirit of ALL-CNN, so that its
    only switches are ReLUs. As in ALL-CNN's head, the last 3x3 convolutions are not padded, which
    lowers the error on MNIST; an image below 17 x 17, too small for that, is first framed with
    zeros to 17 x 17.

    `width` multiplies every number of channels but those of input and output. Weights are
    He-initialised. Raises `SettingsError` if `classes` or `in_channels` is below 1, or `width` leaves a
    layer without channels.
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
        for channels, stride, padding in PLAN:
            out_channels = round(channels * width)
            if out_channels < 1:
                raise SettingsError(f"width {width} leaves a layer of {channels} without channels")
            layers += conv(
                in_channels, out_channels, 3, stride=stride, padding=padding, batch_norm=batch_norm
            )
            in_channels = out_channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(in_channels, classes, 1)
        he_init(self)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, classes)
        """Return the logits."""
        top, left = (max(0, SMALLEST - side) for side in x.shape[-2:])
        if top or left:
            x = F.pad(x, (left // 2, left - left // 2, top // 2, top - top // 2))
        return torch.mean(self.classifier(self.features(x)), (2, 3))
