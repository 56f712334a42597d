"""Parametric ReLU: `q` where `q > 0`, else `weight * q` with a learned weight."""
# ruff: noqa: D102 (`Activation` says what the methods do)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import bits
from ..hard_threshold import as_channels
from .base import Activation
from .registry import called, register


class PRelu(Activation):
    """On where `q > 0`; `weight` is one number or (channels,)."""

    kind = "prelu"

    def __init__(self, q: Tensor, weight: Tensor) -> None:
        super().__init__(q)
        self.weight = weight

    def own(self) -> Sequence[Tensor]:
        return (self.q > 0,)

    def held(self, planes: Sequence[Tensor]) -> Any:
        # the weight learns from q where the mask is off, so autograd must keep q here
        mask = bits.unpack(planes[0], self.q.shape[1:])
        return torch.where(mask, self.q, as_channels(self.weight.to(self.q.dtype), self.q) * self.q)


register(PRelu, *called("prelu"))
