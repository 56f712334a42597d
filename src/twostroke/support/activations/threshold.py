"""Hard threshold (eq. 9): `q` where `q > beta`, else 0."""
# ruff: noqa: D102 (`Activation` says what the methods do)

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from .. import bits
from ..hard_threshold import as_channels, hard_threshold, wide
from .registry import called, register
from .relu import Relu


class Threshold(Relu):
    """On where `q > beta`; `beta` a number or (channels,)."""

    kind = "threshold"

    def __init__(self, q: Tensor, beta: float | Tensor = 0.0, inplace: bool = False) -> None:
        super().__init__(q, inplace)
        self.beta = beta

    def own(self) -> Sequence[Tensor]:
        if isinstance(self.beta, Tensor):
            return (self.q > as_channels(self.beta, self.q),)
        return (~(wide(self.q) <= self.beta),)  # as torch.threshold does

    def own_packed(self) -> list[Tensor]:
        return [bits.pack(self.own()[0])]


def _threshold(
    q: Tensor, threshold: float, value: float, inplace: bool = False
) -> Threshold | None:
    return Threshold(q, float(threshold), inplace) if value == 0 else None


def _hard_threshold(q: Tensor, beta: float | Tensor, _width: float) -> Threshold:
    return Threshold(q, beta)


register(_threshold, *called("threshold"))
register(partial(_threshold, inplace=True), *called("threshold_"))
register(_hard_threshold, hard_threshold)
