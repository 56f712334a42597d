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
from . import gpu, kernels

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
        ctx.save_for_backward(q, packed)
        q, fused = _prepared(q)
        if fused is None:
            ctx.scale = (q.var(correction=0) + _LEAST).rsqrt() / margin
            return _short(q, _sides(q, packed), ctx.scale).square_().mean()
        ctx.scale = fused.scale(q, margin, _LEAST)
        return torch.as_tensor(fused.value(q, packed, ctx.scale), dtype=_wide(q))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        given, packed = ctx.saved_tensors
        q, fused = _prepared(given)
        if fused is None:
            sides = _sides(q, packed)
            factor = -2.0 * ctx.scale * grad / max(1, q.numel())
            slope = _short(q, sides, ctx.scale).mul_(sides).mul_(factor)
        else:
            slope = fused.slope(q, packed, ctx.scale, grad)
        return slope.to(given.dtype), None, None


def _prepared(q: Tensor) -> tuple[Tensor, Any]:
    """The pre-activations as they are counted, and the module of fused kernels that takes them, or None."""
    if gpu.serves(q):
        return q, gpu
    q = q.to(_wide(q))
    return q, kernels if kernels.serves(q) else None


def _wide(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)


def _sides(q: Tensor, packed: Tensor) -> Tensor:  # (batch, ...) of -1 and 1
    return bits.unpack(packed, q.shape[1:], q.dtype).mul(2).sub_(1)


def _short(q: Tensor, sides: Tensor, scale: Any) -> Tensor:
    """How much each unit lacks to its margin, in margins: max(0, 1 - s · scale · q)."""
    return (sides * q).mul_(-scale).add_(1).clamp_(min=0)
