"""Leaky ReLU: `q` where `q > 0`, else `slope * q`."""
# ruff: noqa: D102 (`Activation` says what the methods do)

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from .base import Activation
from .held import select
from .registry import called, register


class LeakyRelu(Activation):
    """On where `q > 0`; the slope below is fixed."""

    kind = "leaky_relu"

    def __init__(self, q: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(q, inplace)
        self.slope = negative_slope

    def own(self) -> Sequence[Tensor]:
        return (~(self.q <= 0),)

    def held(self, planes: Sequence[Tensor]) -> Any:
        return select(self.q, planes[0], slope=self.slope, inplace=self.inplace)


register(LeakyRelu, *called("leaky_relu"))
register(partial(LeakyRelu, inplace=True), *called("leaky_relu_"))
