"""Fused kernels for a GPU: which tensors they take, and how they are launched.

`kernels` has those for a CPU. A mask is applied, and a pre-activation is packed, in one pass over memory.
The kernels are written in Triton (`triton_kernels`), which comes with PyTorch's CUDA builds. Triton
compiles them at first use, once for each kind of shape, and keeps them on disk. Without Triton the chains
of tensor operations in `bits` do the same.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .layouts import INFINITIES, channels_last, fusable, kernels_wanted, plain

# offsets beyond this need 64 bits; the last tile may reach a little further than the tensor
_NARROW = 2**31 - 2**20
# bytes of masks that a program of the flat kernels takes
_BYTES = 256
# values that a tile of the channels-last kernels takes, at most
_VALUES = 4096


@lru_cache(maxsize=1)
def _compiled() -> Any:
    """The kernels, or None without Triton or where TWOSTROKE_KERNELS=0 switches them off."""
    if not kernels_wanted():
        return None
    try:
        from . import triton_kernels
    except ImportError:
        return None
    return triton_kernels


def layout(q: Tensor) -> tuple[int, int] | None:
    """Memory as (places, channels): (units, 1) where contiguous, None where values are not dense."""
    if q.is_contiguous():
        return q.shape[1:].numel(), 1
    return None if channels_last(q) is None else (q.shape[2:].numel(), q.shape[1])


def _placed(t: Tensor) -> bool:
    return t.is_cuda


def serves(q: Tensor) -> bool:
    """Whether `pack` takes this tensor: plain, floating, on a GPU, contiguous or channels last."""
    return _placed(q) and fusable(q) and _compiled() is not None


def selects(q: Tensor, packed: Tensor, out: Tensor) -> bool:
    """Whether `select` takes these: `q` that `serves`, `out` in the same layout, bits beside them."""
    return (
        serves(q)
        and all(_placed(t) and plain(t) for t in (packed, out))
        and out.dtype == q.dtype
        and layout(out) == layout(q)
    )


def _on_device(q: Tensor) -> AbstractContextManager[Any]:
    # Triton launches on the current device, which need not be that of the tensors
    return torch.cuda.device(q.device) if q.is_cuda else nullcontext()


def _tiles(places: int, channels: int) -> tuple[int, dict[str, int]]:
    """Tiles of a channels-last row, and their size: `tiles_across` and `tiles`, `GROUPS`, `CHANNELS`."""
    across = 64 if channels % 64 == 0 else min(32, 1 << (channels - 1).bit_length())
    groups = (places + 7) // 8
    deep = min(_VALUES // (8 * across), 1 << (groups - 1).bit_length(), 16)
    tiles_across = -(-channels // across)
    tiles = tiles_across * -(-groups // deep)
    return tiles, {
        "tiles_across": tiles_across,
        "tiles": tiles,
        "GROUPS": deep,
        "CHANNELS": across,
    }


def select(
    q: Tensor,  # (rows, ...) that `serves`
    packed: Tensor,  # (rows or 1, ⌈units / 8⌉) uint8
    out: Tensor,  # of q's type and layout; may be q itself
    slope: float = 0.0,
) -> Tensor:
    """`q` where a bit is on, +0 or `slope * q` where it is off; the same as `bits.reference_select`."""
    kernels, rows, units = _compiled(), q.shape[0], q.shape[1:].numel()
    shape = layout(q)
    assert shape is not None
    places, channels = shape
    if packed.stride(1) != 1:
        packed = packed.contiguous()
    width = packed.shape[1]
    stride = 0 if packed.shape[0] == 1 else packed.stride(0)
    given: dict[str, Any] = {
        "width": width,
        "stride": stride,
        "SLOPE": float(slope),
        "WHOLE": places % 8 == 0,
        "WIDE": max(q.numel(), rows * stride) > _NARROW,
    }
    with _on_device(q):
        if channels == 1:
            grid = (-(-rows * width // _BYTES),)
            kernels.select_flat[grid](
                q, packed, out, units=units, total=rows * width, BYTES=_BYTES, **given
            )
        else:
            tiles, sizes = _tiles(places, channels)
            kernels.select_last[(rows * tiles,)](
                q, packed, out, channels=channels, places=places, **given, **sizes
            )
    return out


def pack(
    q: Tensor,  # (rows, ...) that `serves`
    *,
    closed: bool,  # zeros are on
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """`bits.pack` of ReLU's own rule: on unless `q <= 0` (`q < 0` if closed), so on where undefined."""
    kernels, rows, units = _compiled(), q.shape[0], q.shape[1:].numel()
    shape = layout(q)
    assert shape is not None
    places, channels = shape
    width = (units + 7) // 8
    packed = torch.empty(rows, width, dtype=torch.uint8, device=q.device)
    given: dict[str, Any] = {
        "width": width,
        "CLOSED": closed,
        "INFINITY": INFINITIES[q.dtype],
        "WIDE": q.numel() > _NARROW,
    }
    with _on_device(q):
        if channels > 1 and places % 8 == 0:
            tiles, sizes = _tiles(places, channels)
            kernels.pack_last[(rows * tiles,)](
                q, packed, channels=channels, places=places, **given, **sizes
            )
        else:
            grid = (-(-rows * width // _BYTES),)
            kernels.pack_flat[grid](
                q,
                packed,
                units=units,
                channels=channels,
                places=places,
                total=rows * width,
                LAST=channels > 1,
                WHOLE=units % 8 == 0,
                BYTES=_BYTES,
                **given,
            )
    return packed
