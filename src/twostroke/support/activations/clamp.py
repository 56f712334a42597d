"""Three pieces: `low`, `q`, `high`, as ReLU6, hardtanh and `clamp` have them."""
# ruff: noqa: D102 (`Activation` says what the methods do)

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import bits
from ..hard_threshold import wide
from .base import Activation
from .held import select
from .registry import called, register
from .relu import Relu


def _clamp_is_closed() -> bool:
    # whether the gradient of torch.clamp is 1 at its corners depends on the version of PyTorch
    with torch.inference_mode(False), torch.enable_grad():
        corner = torch.zeros((), requires_grad=True, device="cpu")
        return bool(torch.autograd.grad(corner.clamp(min=0), corner)[0])


_CLOSED = _clamp_is_closed()


class Clamp(Activation):
    """Linear between `low` and `high`; the second plane says "high".

    `clamp` says that `torch.clamp` is called, which differs from hardtanh at the corners.
    """

    kind = "clamp"

    def __init__(
        self, q: Tensor, low: float, high: float, inplace: bool = False, *, clamp: bool = False
    ) -> None:
        super().__init__(q, inplace)
        self.low, self.high, self.clamp = low, high, clamp

    @property
    def planes(self) -> int:
        return 2

    def own(self) -> Sequence[Tensor]:
        # hardtanh compares in single precision at least
        q = self.q if self.clamp else wide(self.q)
        closed = self.clamp and _CLOSED
        low = q < self.low if closed or self.low == -math.inf else q <= self.low
        high = q > self.high if closed or self.high == math.inf else q >= self.high
        return ~(low | high), high

    def ruled(self, on: Tensor) -> Sequence[Tensor]:
        _, high = self.own()
        return on & ~high, on & high

    def held(self, planes: Sequence[Tensor]) -> Any:
        z = select(self.q, planes[0])
        for value, packed in ((self.high, planes[1]), (self.low, ~(planes[0] | planes[1]))):
            if value != 0 and math.isfinite(value):
                z = z + value * bits.unpack(packed, self.q.shape[1:], z.dtype)
        return self.q.copy_(z) if self.inplace else z

    def gated(self, planes: Sequence[Tensor]) -> Any:
        return super().gated([planes[0] | planes[1]])


def _relu6(q: Tensor, inplace: bool = False) -> Clamp:
    return Clamp(q, 0.0, 6.0, inplace)


def _hardtanh(
    q: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Clamp:
    return Clamp(q, min_val, max_val, inplace)


def _clamp(q: Tensor, min: Any = None, max: Any = None, inplace: bool = False) -> Activation | None:
    def number(value: Any) -> bool:
        return isinstance(value, int | float)

    if max is None and number(min):
        if min == 0:
            return Relu(q, inplace, closed=_CLOSED)
        return Clamp(q, min, math.inf, inplace, clamp=True)
    if number(min) and number(max) and min < max:
        return Clamp(q, min, max, inplace, clamp=True)
    return None  # one-sided from above, or bounds that are tensors


register(_relu6, *called("relu6"))
register(_hardtanh, *called("hardtanh"))
register(partial(_hardtanh, inplace=True), *called("hardtanh_"))
register(_clamp, *called("clamp", "clip", "clamp_min"))
register(partial(_clamp, inplace=True), *called("clamp_", "clip_", "clamp_min_"))
