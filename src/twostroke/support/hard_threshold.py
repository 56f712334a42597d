"""Positive hard-thresholding (eq. 9), as a function and as a module."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import handle_torch_function, has_torch_function

from ..errors import SettingsError


def as_channels(
    beta: float | Tensor,  # number or (channels,)
    q: Tensor,  # (batch, channels, ...)
) -> float | Tensor:
    """Shape a per-channel value so that it broadcasts over `q`; numbers pass through."""
    if not isinstance(beta, Tensor) or beta.numel() == 1:
        return beta
    if q.ndim < 2 or beta.numel() != q.shape[1]:
        raise SettingsError(
            f"a per-channel value of {beta.numel()} entries meets a pre-activation of shape "
            f"{tuple(q.shape)}: give one number, or one for each of the channels (dimension 1)"
        )
    return beta.view(-1, *[1] * (q.ndim - 2))


def wide(q: Tensor) -> Tensor:
    """`q` in single precision at least."""
    return q.float() if q.dtype in (torch.half, torch.bfloat16) else q


class _HardThreshold(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, beta: Tensor, width: float) -> Tensor:
        return torch.where(q > as_channels(beta, q), q, torch.zeros_like(q))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        q, beta, ctx.width = inputs
        ctx.save_for_backward(q, beta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        q, beta = ctx.saved_tensors
        margin = q - as_channels(beta, q)
        grad_q = torch.where(margin > 0, grad, torch.zeros_like(grad))
        grad_beta = None
        if ctx.needs_input_grad[1]:
            near = (margin.abs() < ctx.width).to(q.dtype) / (2 * ctx.width)
            terms = -grad * q * near
            dims = [d for d in range(q.ndim) if d != 1 or beta.numel() == 1]
            grad_beta = terms.sum(dims).view_as(beta).to(beta.dtype)
        return grad_q, grad_beta, None


def hard_threshold(q: Tensor, beta: float | Tensor = 0.0, width: float = 1.0) -> Tensor:
    """Positive hard threshold: `q` where `q > beta`, else 0 (eq. 9).

    `q` is (batch, channels, ...), `beta` a number or (channels,). The gradient towards `q` is the
    exact one (1 where on, 0 where off). Towards `beta` the exact one is zero almost everywhere, so
    a tensor that wants a gradient gets a *surrogate*: the step `m = [q > beta]` is replaced by the
    ramp that rises from 0 at `q = beta - width` to 1 at `q = beta + width`. This gives
    `dz/dbeta = q dm/dbeta = -q / (2 width)` where `|q - beta| < width`, and 0 elsewhere.
    """
    if has_torch_function((q,)):
        return handle_torch_function(hard_threshold, (q,), q, beta, width)
    if isinstance(beta, Tensor):
        return cast(Tensor, _HardThreshold.apply(q, beta, width))
    return torch.threshold(q, beta, 0.0)


class HardThreshold(nn.Module):
    """Positive hard-thresholding as a drop-in activation (eq. 9).

    `beta` is a number, or a tensor (channels,) for one threshold a channel. With `learn=True` it is
    a parameter, trained through the surrogate described at `hard_threshold`; otherwise a buffer.
    While a support is held, thresholds are not used and get no gradient.

    Raises `SettingsError` for a `width` that is not positive or a `beta` of several dimensions.
    """

    beta: Tensor

    def __init__(self, beta: float | Tensor = 0.0, *, learn: bool = False, width: float = 1.0):
        super().__init__()
        if not width > 0:
            raise SettingsError(f"the surrogate's width must be positive, not {width}")
        kept = isinstance(beta, Tensor) and beta.is_floating_point()
        dtype = None if kept else torch.get_default_dtype()
        value = torch.as_tensor(beta, dtype=dtype).detach().clone()
        if value.ndim > 1:
            raise SettingsError(
                f"beta must be a number or one number a channel, not of shape {tuple(value.shape)}"
            )
        if learn:
            self.beta = nn.Parameter(value)
        else:
            self.register_buffer("beta", value)
        self.width = width

    def forward(self, q: Tensor) -> Tensor:
        """Apply to `q` (batch, channels, ...)."""
        return hard_threshold(q, self.beta, self.width)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        size = "per channel" if self.beta.ndim else f"{float(self.beta):g}"
        return f"beta={size}, learn={isinstance(self.beta, nn.Parameter)}"
