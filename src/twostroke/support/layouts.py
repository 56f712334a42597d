"""Which tensors the fused kernels take, and how their values lie in memory."""

from __future__ import annotations

import os

import torch
from torch import Tensor

# floating types, each with the bits of its infinity: what lies above it, the sign left out, is NaN
INFINITIES = {
    torch.float16: 0x7C00,
    torch.bfloat16: 0x7F80,
    torch.float32: 0x7F800000,
    torch.float64: 0x7FF0000000000000,
}


def channels_last(q: Tensor) -> torch.memory_format | None:
    """The channels-last format that `q` has, or None."""
    formats = (torch.channels_last, torch.channels_last_3d)
    return next((f for f in formats if q.is_contiguous(memory_format=f)), None)


def plain(t: Tensor) -> bool:
    """Whether `t` has memory of its own: no subclass, not within `torch.func`, no symbol of zeros."""
    return (
        not torch.compiler.is_compiling()
        and type(t) is Tensor
        and not torch._C._functorch.is_functorch_wrapped_tensor(t)
        and not t._is_zerotensor()
    )


def fusable(q: Tensor) -> bool:
    """Whether kernels can read `q`: plain, floating, not empty, contiguous or channels last."""
    return (
        plain(q)
        and q.dtype in INFINITIES
        and q.ndim > 1
        and (q.is_contiguous() or channels_last(q) is not None)
        and q.numel() > 0
    )


def kernels_wanted() -> bool:
    """False where TWOSTROKE_KERNELS=0 switches all kernels off."""
    return os.environ.get("TWOSTROKE_KERNELS") != "0"
