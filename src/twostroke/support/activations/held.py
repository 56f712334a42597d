"""`m ∘ q` from packed bits, with its gradient: eagerly, within `torch.func`, and compiled.

All forms compute `bits.select`, and keep nothing but the packed bits for the backward pass.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.autograd.graph import increment_version

from .. import bits
from ..layouts import channels_last


def select(
    q: Tensor,  # (batch, ...) floating
    packed: Tensor,  # (batch or 1, ⌈units / 8⌉) uint8
    *,
    slope: float = 0.0,
    inplace: bool = False,
) -> Tensor:
    """`q` where a bit is on, 0 (or `slope * q`) where it is off; differentiable in `q`.

    It is linear in `q`, so the gradient goes through the same bits.
    """
    if torch.compiler.is_compiling():
        z = torch.ops.twostroke.select(q, packed, slope)
        return q.copy_(z) if inplace else z
    if torch._C._are_functorch_transforms_active():
        return cast(Tensor, _HeldInTransforms.apply(q, packed, slope, inplace))
    if forward_ad._current_level < 0 and not (q.requires_grad and torch.is_grad_enabled()):
        z = bits.select(q, packed, slope=slope, out=q if inplace else None)
        if inplace and not q.is_inference():  # for autograd, which may have saved q elsewhere
            increment_version(q)
        return z
    return cast(Tensor, _Held.apply(q, packed, slope, inplace))


def gate(
    q: Tensor,  # (batch, ...) floating
    packed: Tensor,  # (batch or 1, ⌈units / 8⌉) uint8
    *,
    closed: bool = False,
    inplace: bool = False,
) -> Tensor:
    """`m ∘ ReLU(q)`; differentiable in `q`, with gradient 1 at 0 if `closed`."""
    if (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    ):
        own = bits.pack_relu(q, closed=closed)
        return select(q, own & packed, inplace=inplace)
    if q.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, _Gated.apply(q, packed, closed, inplace))
    z, _ = bits.gate(q, packed, closed=closed, out=q if inplace else None)
    if inplace and not q.is_inference():
        increment_version(q)
    return z


def _keep(ctx: Any, q: Tensor, packed: Tensor, slope: float) -> None:
    ctx.slope = slope
    ctx.layout = None if q.is_contiguous() else channels_last(q)
    ctx.save_for_backward(packed)


def _as_q(ctx: Any, grad: Tensor) -> Tensor:
    """The gradient in the layout of `q`, as ReLU gives it."""
    return grad.contiguous(memory_format=ctx.layout) if ctx.layout else grad


class _Held(Function):
    """The form for eager calls."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, packed: Tensor, slope: float, inplace: bool) -> Tensor:
        z = bits.select(q, packed, slope=slope, out=q if inplace else None)
        _set_up(ctx, (q, packed, slope, inplace), z)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (packed,) = ctx.saved_tensors
        return select(_as_q(ctx, grad), packed, slope=ctx.slope), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        (packed,) = ctx.saved_tensors
        return select(tangent, packed, slope=ctx.slope, inplace=ctx.inplace)


class _Gated(Function):
    """The same, where the function's own mask is found on the way."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, packed: Tensor, closed: bool, inplace: bool) -> Tensor:
        z, both = bits.gate(q, packed, closed=closed, out=q if inplace else None)
        _set_up(ctx, (q, both, 0.0, inplace), z)
        return z

    backward = staticmethod(_Held.backward)


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, packed, slope, ctx.inplace = inputs
    _keep(ctx, q, packed, slope)
    if ctx.inplace:
        ctx.mark_dirty(q)
    ctx.save_for_forward(packed)


class _HeldInTransforms(Function):
    """The form that `torch.func` asks for.

    Used only within its transforms: PyTorch binds the arguments of this form by their signature at
    each call, which takes longer than the work of a small site.
    """

    @staticmethod
    def forward(q: Tensor, packed: Tensor, slope: float, inplace: bool) -> Tensor:
        return bits.select(q, packed, slope=slope, out=q if inplace else None)

    setup_context = staticmethod(_set_up)
    backward = staticmethod(_Held.backward)
    jvp = staticmethod(_Held.jvp)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        q: Tensor,
        packed: Tensor,
        slope: float,
        inplace: bool,
    ) -> tuple[Tensor, int]:
        # the mapped dimension is folded into the batch
        def front(t: Tensor, dim: int | None) -> Tensor:
            return t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)

        many = front(q, in_dims[0])
        rows = front(packed, in_dims[1]).expand(-1, many.shape[1], -1).flatten(0, 1)
        z = select(many.flatten(0, 1), rows, slope=slope).view_as(many)
        if inplace and in_dims[0] is not None:
            return q.copy_(z.movedim(0, in_dims[0])), in_dims[0]
        return z, 0


# The form for compiled code: an operator that the compiler leaves whole. Between forward and backward
# pass the compiler then keeps packed bits, where it would otherwise keep a byte a unit.


@torch.library.custom_op("twostroke::select", mutates_args=())
def _op(q: Tensor, packed: Tensor, slope: float) -> Tensor:
    return bits.select(q, packed, slope=slope)


@_op.register_fake
def _(q: Tensor, packed: Tensor, slope: float) -> Tensor:
    return bits.room_for(q)


def _op_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    (packed,) = ctx.saved_tensors
    return torch.ops.twostroke.select(_as_q(ctx, grad), packed, ctx.slope), None, None


_op.register_autograd(_op_backward, setup_context=lambda ctx, inputs, output: _keep(ctx, *inputs))
