"""ReLU: `max(q, 0)`."""
# ruff: noqa: D102 (`Activation` says what the methods do)

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from .. import bits
from .base import Activation
from .held import gate, select
from .registry import called, register


class Relu(Activation):
    """On where `q > 0`, or `q >= 0` if `closed`: where the gradient of the function is 1 at 0."""

    kind = "relu"

    def __init__(self, q: Tensor, inplace: bool = False, *, closed: bool = False) -> None:
        super().__init__(q, inplace)
        self.closed = closed

    def own(self) -> Sequence[Tensor]:
        return (bits.relu_on(self.q, closed=self.closed),)

    def own_packed(self) -> list[Tensor]:
        return [bits.pack_relu(self.q, closed=self.closed)]

    def held(self, planes: Sequence[Tensor]) -> Any:
        return select(self.q, planes[0], inplace=self.inplace)

    def gated(self, planes: Sequence[Tensor]) -> Any:
        # m ∘ max(q, 0) is q where both masks are on
        if type(self) is Relu:
            return gate(self.q, planes[0], closed=self.closed, inplace=self.inplace)
        (own,) = self.own_packed()
        return select(self.q, own & planes[0], inplace=self.inplace)


register(Relu, *called("relu"))
register(partial(Relu, inplace=True), *called("relu_"))
