"""Fused kernels for the pull on a GPU, where Triton is installed; `kernels` has those for a CPU.

Each reads the pre-activations once, in the type that they have, and the packed bits as they are. Nothing is
read back to the host.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..support import gpu as base

# values that a program takes, and bytes of masks
_VALUES, _BYTES = 4096, 256


@lru_cache(maxsize=1)
def _compiled() -> Any:
    if base._compiled() is None:
        return None
    from . import triton_kernels

    return triton_kernels


def serves(q: Tensor) -> bool:
    """Whether the kernels take this tensor: plain, floating, on a GPU, contiguous or channels last."""
    return base.serves(q) and q.numel() > 0 and _compiled() is not None


def _counted(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def scale(q: Tensor, margin: float, least: float) -> Tensor:  # (1,)
    """1 / (margin · √(variance + least)) of all units."""
    programs = -(-q.numel() // _VALUES)
    sums = torch.empty(programs, 2, dtype=_counted(q), device=q.device)
    found = torch.empty(1, dtype=_counted(q), device=q.device)
    given = torch.full((1,), margin, dtype=torch.float64, device=q.device)
    total, wide = q.numel(), q.numel() > base._NARROW
    with base._on_device(q):
        _compiled().moments[(programs,)](q, sums, total=total, WIDE=wide, SIZE=_VALUES)
        _compiled().inverse[(1,)](
            sums, found, programs=programs, total=total, margin=given, LEAST=least, SIZE=256
        )
    return found


def value(q: Tensor, packed: Tensor, scale: Tensor) -> Tensor:  # scalar
    """Mean over units of max(0, 1 - s · scale · q)²."""
    return _run(q, packed, scale, None).sum()


def slope(q: Tensor, packed: Tensor, scale: Tensor, grad: Tensor) -> Tensor:
    """`-2 · scale · grad / units · s · max(0, 1 - s · scale · q)`, laid out as `q` and of its type."""
    return _run(q, packed, scale, grad.to(_counted(q)).reshape(1))


def _run(q: Tensor, packed: Tensor, scale: Tensor, grad: Tensor | None) -> Tensor:
    """Launch over all of `q`: what each program adds to the value, or slopes where there is a gradient."""
    kernels, rows, units = _compiled(), q.shape[0], q.shape[1:].numel()
    shape = base.layout(q)
    assert shape is not None
    places, channels = shape
    packed = packed.contiguous()
    width = packed.shape[1]
    given: dict[str, Any] = {
        "packed": packed,
        "scale": scale,
        "grad": grad,
        "count": q.numel(),
        "width": width,
        "SLOPE": grad is not None,
        "WIDE": q.numel() > base._NARROW,
    }
    if channels == 1:
        grid = -(-rows * width // _BYTES)
        given |= {"units": units, "total": rows * width, "BYTES": _BYTES}
        kernel = kernels.pull_flat
    else:
        tiles, sizes = base._tiles(places, channels)
        grid = rows * tiles
        given |= {"channels": channels, "places": places, **sizes}
        kernel = kernels.pull_last
    out = (
        torch.empty(grid, dtype=_counted(q), device=q.device)
        if grad is None
        else torch.empty_like(q)
    )
    with base._on_device(q):
        kernel[(grid,)](q, out=out, **given)
    return out
