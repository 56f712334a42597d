"""Packed bits: eight units a byte, unit `8 j + k` in bit `k` of byte `j`.

Every operation is a chain of tensor operations, so that it runs on any device. Where `kernels` (on a
CPU) or `gpu` has a faster way, `select` and `pack_relu` take it. Unpacking looks bytes up in a table of
256 rows of eight numbers, which on a CPU is several times faster than shifting. Packing multiplies eight
bytes at once into one. `reference_*` are slow and obviously right: tests compare the two over drawn
shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import cast

import torch
from torch import Tensor

from . import gpu, kernels

# eight 0/1 bytes of a little-endian word, times this, leave their bits in the topmost byte
_GATHER = 0x0102040810204080
# bytes unpacked at a time on a CPU: half a million units, so that the mask stays in cache
_CHUNK = 1 << 16


def packed_bytes(units: int) -> int:
    """Bytes that `units` bits need: ⌈units / 8⌉."""
    return (units + 7) // 8


@lru_cache(maxsize=64)
def _table(device: torch.device, dtype: torch.dtype) -> Tensor:  # (256, 8)
    # made outside of inference mode, because it is kept and may meet autograd later
    with torch.inference_mode(False):
        byte = torch.arange(256, device=device)[:, None]
        return ((byte >> torch.arange(8, device=device)) & 1).to(dtype)


@lru_cache(maxsize=8)
def _popcounts(device: torch.device) -> Tensor:  # (256,)
    with torch.inference_mode(False):
        return _table(device, torch.int64).sum(1)


def pack(
    mask: Tensor,  # (rows, ...) bool
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """Pack a mask, one row of bytes for each entry of its first dimension; spare bits are zero."""
    if kernels.packs(mask):
        return kernels.pack_mask(mask)
    rows, units = mask.shape[0], mask.shape[1:].numel()
    flat = mask.reshape(rows, units)
    if spare := -units % 8:
        flat = torch.nn.functional.pad(flat, (0, spare))
    flat = flat.contiguous().view(-1)
    if flat.storage_offset() % 8:  # a view that starts within a word
        flat = flat.clone()
    words = flat.view(torch.uint8).view(torch.int64)
    return ((words * _GATHER) >> 56).to(torch.uint8).view(rows, packed_bytes(units))


def pack_where(
    compare: Callable[[Tensor], Tensor],  # elementwise, to a fresh bool mask
    q: Tensor,  # (rows, ...)
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """`pack(compare(q))`; on a CPU block by block, so that the mask never leaves the cache."""
    units = q.shape[1:].numel()
    if q.device.type != "cpu" or units % 8 or not q.is_contiguous():
        return pack(compare(q))
    values = q.view(-1)
    packed = torch.empty(values.numel() // 8, dtype=torch.uint8, device=q.device)
    for start in range(0, values.numel(), 16 * _CHUNK):
        words = compare(values[start : start + 16 * _CHUNK]).view(torch.uint8).view(torch.int64)
        words.mul_(_GATHER).bitwise_right_shift_(56)
        packed[start // 8 : start // 8 + words.numel()] = words
    return packed.view(q.shape[0], packed_bytes(units))


def relu_on(
    q: Tensor,  # (rows, ...)
    *,
    closed: bool,
) -> Tensor:  # like q, bool
    """Where ReLU is on: unless `q <= 0` (`q < 0` if `closed`), so also where `q` is undefined."""
    return (q < 0 if closed else q <= 0).logical_not_()


def pack_relu(
    q: Tensor,  # (rows, ...)
    *,
    closed: bool = False,
) -> Tensor:  # (rows, ⌈units / 8⌉) uint8
    """`pack(relu_on(q))`, without the mask in between where a kernel does it."""
    if kernels.serves(q):
        return kernels.pack(q, closed=closed)
    if gpu.serves(q):
        return gpu.pack(q, closed=closed)
    return pack_where(lambda values: relu_on(values, closed=closed), q)


def unpack(
    packed: Tensor,  # (rows, ⌈units / 8⌉) uint8
    shape: Sequence[int],  # of one row
    dtype: torch.dtype = torch.bool,
) -> Tensor:  # (rows, *shape)
    """Undo `pack`; with a numeric `dtype` the mask comes as zeros and ones of that type."""
    rows, units = packed.shape[0], prod(shape)
    if torch.compiler.is_compiling():  # a table would be traced into the graph
        mask = cast(Tensor, torch.ops.twostroke.unpack(packed, units, dtype))
        return mask.view(rows, *shape)
    table = _table(packed.device, torch.uint8 if dtype == torch.bool else dtype)
    if dtype == torch.bool:  # one 8-byte gather for each byte
        index = packed.reshape(-1).int()
        mask = table.view(torch.int64).view(-1).index_select(0, index).view(torch.bool)
    else:
        mask = table.index_select(0, packed.reshape(-1).int())
    return mask.view(rows, 8 * packed.shape[1])[:, :units].view(rows, *shape)


@torch.library.custom_op("twostroke::unpack", mutates_args=())
def _unpack(packed: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    return unpack(packed, (units,), dtype).contiguous().clone()


@_unpack.register_fake
def _(packed: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    return packed.new_empty((packed.shape[0], units), dtype=dtype)


def room_for(q: Tensor) -> Tensor:
    """An empty tensor with the strides that ReLU's output has, also where a dimension of 1 has any stride.

    Convolutions choose their algorithm by strides, and with it the last digits of a gradient.
    """
    if q.is_contiguous():
        return torch.empty_like(q, memory_format=torch.contiguous_format)
    return torch.empty_like(q)


def select(
    q: Tensor,  # (batch, ...) floating
    packed: Tensor,  # (batch or 1, ⌈units / 8⌉) uint8
    *,
    slope: float = 0.0,
    out: Tensor | None = None,  # like q; may be q itself
) -> Tensor:
    """`m ∘ q` from packed bits: `q` where a bit is on, exactly 0 (or `slope * q`) where it is off.

    What is off is replaced, not multiplied, so that an infinite or undefined value under a zero
    mask stays out, as it does in ReLU. The work is done by the kernels that PyTorch has for the
    backward pass of ReLU and leaky ReLU: "keep the first where the second is positive".
    """
    if out is None:
        out = room_for(q)
    plain = q.is_contiguous() and out.is_contiguous()
    alike = out is q or (out.dtype == q.dtype and (plain or out.stride() == q.stride()))
    if alike and slope == 0 and kernels.serves(q):
        return kernels.select(q, packed, out)
    units = q.shape[1:].numel()
    if gpu.selects(q, packed, out):
        return gpu.select(q, packed, out, slope)
    if plain and q.device.type == "cpu" and units % 8 == 0 and packed.shape[0] == q.shape[0]:
        values, results, bytes_ = q.view(-1), out.view(-1), packed.reshape(1, -1)
        for start in range(0, bytes_.numel(), _CHUNK):
            piece = slice(8 * start, 8 * (start + _CHUNK))
            some = bytes_[:, start : start + _CHUNK]
            ones = unpack(some, (8 * some.shape[1],), q.dtype)
            _keep(values[piece], ones.view(-1), slope, results[piece])
        return out
    ones = unpack(packed, q.shape[1:], q.dtype)
    _keep(q, ones.expand_as(q), slope, out)
    return out


def gate(
    q: Tensor,  # (batch, ...) floating
    packed: Tensor,  # (batch or 1, ⌈units / 8⌉) uint8
    *,
    closed: bool = False,
    out: Tensor | None = None,  # like q; may be q itself
) -> tuple[Tensor, Tensor]:
    """`m ∘ ReLU(q)`, and the packed bits of where both are on: (batch, ⌈units / 8⌉) uint8."""
    if kernels.serves(q) and (out is None or out is q):
        out = room_for(q) if out is None else out
        return out, kernels.gate(q, packed, out, closed=closed)
    both = pack_relu(q, closed=closed) & packed
    return select(q, both, out=out), both


def _keep(q: Tensor, ones: Tensor, slope: float, out: Tensor) -> None:
    if slope == 0.0:
        torch.ops.aten.threshold_backward.grad_input(q, ones, 0.0, grad_input=out)
    else:
        torch.ops.aten.leaky_relu_backward.grad_input(q, ones, slope, False, grad_input=out)


def count(packed: Tensor) -> int:
    """Number of bits that are on."""
    return int(_popcounts(packed.device).index_select(0, packed.reshape(-1).int()).sum())


def reference_pack(mask: Tensor) -> Tensor:
    """`pack`, one bit at a time."""
    rows = mask.reshape(mask.shape[0], mask.shape[1:].numel()).tolist()
    bytes_ = [
        [sum(bit << k for k, bit in enumerate(row[j : j + 8])) for j in range(0, len(row), 8)]
        for row in rows
    ]
    size = (mask.shape[0], packed_bytes(mask.shape[1:].numel()))
    return torch.tensor(bytes_, dtype=torch.uint8, device=mask.device).view(size)


def reference_select(q: Tensor, mask: Tensor, slope: float = 0.0) -> Tensor:
    """`select` with a mask that is not packed."""
    return torch.where(mask, q, slope * q if slope else torch.zeros_like(q))
