"""The pull of one site: how far its pre-activations are from lying on their given side.

For pre-activations q, given sides s = ±1, the site's standard deviation σ over the batch and a margin:

    pull = mean over units of max(0, 1 - s q / (margin σ))²

No gradient goes through σ, so that only sides are taught and the scale stays free. It is the
activation-boundary loss of Heo et al. ("Knowledge transfer via distillation of activation boundaries
formed by hidden neurons", 2019) with bits instead of a teacher, and a σ that makes its margin mean the
same at every site. A small margin leaves only units near the boundary, or beyond it, with a gradient.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..support import bits
from . import kernels

# a site whose units are all equal has no scale
_LEAST = 1e-12


def reference_pull(
    q: Tensor,  # (batch, ...) floating
    mask: Tensor,  # (batch, ...) bool
    margin: float = 1.0,
) -> Tensor:  # scalar
    """`pull`, as it is written."""
    q = q.float() if q.dtype in (torch.half, torch.bfloat16) else q
    sigma = (q.detach().var(correction=0) + _LEAST).sqrt()
    side = mask.to(q.dtype) * 2 - 1
    return (1 - side * q / (margin * sigma)).clamp(min=0).square().mean()


def pull(
    q: Tensor,  # (batch, ...) floating
    packed: Tensor,  # (batch, ⌈units / 8⌉) uint8
    margin: float = 1.0,
) -> Tensor:  # scalar, float32 at least
    """Pull towards given sides, from packed bits; keeps nothing for backward but `q` and them."""
    return cast(Tensor, _Pull.apply(q, packed, margin))


class _Pull(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, packed: Tensor, margin: float) -> Tensor:
        wide = _wide(q)
        fused = kernels.serves(wide)
        if fused:
            scale = (kernels.variance(wide) + _LEAST) ** -0.5 / margin
            value = torch.tensor(kernels.value(wide, packed, scale), dtype=wide.dtype)
        else:
            scale = (wide.var(correction=0) + _LEAST).rsqrt() / margin
            value = _short(wide, _sides(wide, packed), scale).square_().mean()
        ctx.save_for_backward(q, packed)
        ctx.scale, ctx.fused = scale, fused
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        q, packed = ctx.saved_tensors
        wide, scale = _wide(q), ctx.scale
        factor = -2.0 * scale * grad / max(1, q.numel())
        if ctx.fused:
            slope = kernels.slope(wide, packed, scale, float(factor))
        else:
            sides = _sides(wide, packed)
            slope = _short(wide, sides, scale).mul_(sides).mul_(factor)
        return slope.to(q.dtype), None, None


def _wide(q: Tensor) -> Tensor:
    return q.float() if q.dtype in (torch.half, torch.bfloat16) else q


def _sides(q: Tensor, packed: Tensor) -> Tensor:  # (batch, ...) of -1 and 1
    return bits.unpack(packed, q.shape[1:], q.dtype).mul(2).sub_(1)


def _short(q: Tensor, sides: Tensor, scale: Any) -> Tensor:
    """How much each unit lacks to its margin, in margins: max(0, 1 - s · scale · q)."""
    return (sides * q).mul_(-scale).add_(1).clamp_(min=0)
