"""Kernels of the pull for a GPU, in Triton; `gpu` launches them.

As in `support.triton_kernels`, a program takes whole bytes of masks: `_flat` reads tensors whose units lie in
the order of the bits, `_last` reads channels-last tensors in tiles. Sums are of float32, of float64 for that
type; each program writes its own, and they are added up afterwards, so that results repeat.
"""

import triton
import triton.language as tl

from ..support.triton_kernels import _add, _bytes, _tile


@triton.jit
def _wide(value):
    """Half precision is counted in single."""
    return value if value.dtype == tl.float64 else value.to(tl.float32)


@triton.jit(do_not_specialize=["total"])
def moments(
    q,  # (total,) as it lies in memory
    sums,  # (programs, 2): of values, of their squares
    total,
    WIDE: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Sums of values and of their squares."""
    program = tl.program_id(0)
    first = program.to(tl.int64) if WIDE else program
    at = first * SIZE + tl.arange(0, SIZE)
    value = _wide(tl.load(q + at, mask=at < total, other=0.0))
    tl.store(sums + 2 * program, tl.reduce(value, None, _add))
    tl.store(sums + 2 * program + 1, tl.reduce(value * value, None, _add))


@triton.jit(do_not_specialize=["programs", "total"])
def inverse(
    sums,  # (programs, 2), from `moments`
    scale,  # (1,), of the type that is counted in
    programs,
    total,
    margin,
    LEAST: tl.constexpr,
    SIZE: tl.constexpr,
):
    """1 / (margin · standard deviation), in one program."""
    at = tl.arange(0, SIZE)
    one = tl.full((SIZE,), 0.0, tl.float64)
    two = tl.full((SIZE,), 0.0, tl.float64)
    for first in range(0, programs, SIZE):
        there = first + at < programs
        one += tl.load(sums + 2 * (first + at), mask=there, other=0.0).to(tl.float64)
        two += tl.load(sums + 2 * (first + at) + 1, mask=there, other=0.0).to(tl.float64)
    count = total.to(tl.float64)
    mean = tl.reduce(one, 0, _add) / count
    variance = tl.maximum(tl.reduce(two, 0, _add) / count - mean * mean, 0.0)
    found = 1.0 / (tl.sqrt(variance + LEAST) * tl.load(margin))
    tl.store(scale, found.to(scale.dtype.element_ty))


@triton.jit
def _end(q, at, mask, bit, scale, grad, out, count, SLOPE: tl.constexpr):
    """Of one tile: the sum of max(0, 1 - s · scale · q)² / count into `out`, or the slope of each by `q`."""
    value = _wide(tl.load(q + at, mask=mask, other=0.0))
    side = (2 * bit - 1).to(value.dtype)
    by = tl.load(scale)
    short = tl.maximum(1.0 - side * by * value, 0.0)
    if SLOPE:
        slope = short * side * (-2.0 * by * tl.load(grad) / count.to(value.dtype))
        tl.store(out + at, slope.to(out.dtype.element_ty), mask=mask)
    else:
        short = tl.where(mask, short, 0.0)
        total = tl.reduce(short * short, None, _add)
        tl.store(out + tl.program_id(0), total / count.to(value.dtype))


@triton.jit(do_not_specialize=["total", "width", "count"])
def pull_flat(
    q,  # (rows, units)
    packed,  # (rows, width) uint8
    scale,  # (1,), of the type that is counted in
    grad,  # (1,), of the value, if SLOPE
    out,  # (programs,), or like q if SLOPE
    count,  # units of all rows
    units,
    total,  # bytes of all rows
    width,  # bytes of a row
    SLOPE: tl.constexpr,
    WIDE: tl.constexpr,
    BYTES: tl.constexpr,
):
    """The pull where units lie in the order of the bits."""
    row, place, there = _bytes(total, width, BYTES, WIDE)
    byte = tl.load(packed + row * width + place, mask=there, other=0).to(tl.int32)
    k = tl.arange(0, 8)[None, :]
    unit = 8 * place[:, None] + k
    mask = there[:, None] & (unit < units)
    at = (row * units)[:, None] + unit
    _end(q, at, mask, (byte[:, None] >> k) & 1, scale, grad, out, count, SLOPE)


@triton.jit(do_not_specialize=["width", "tiles_across", "tiles", "count"])
def pull_last(
    q,  # (rows, places, channels)
    packed,  # (rows, width) uint8
    scale,
    grad,
    out,  # (programs,), or like q if SLOPE
    count,
    channels,
    places,
    width,
    tiles_across,  # tiles that the channels take
    tiles,  # tiles that a row takes
    SLOPE: tl.constexpr,
    WIDE: tl.constexpr,
    GROUPS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The pull of channels-last tensors."""
    row, group, channel = _tile(tiles_across, tiles, GROUPS, CHANNELS, WIDE)
    there = (8 * group < places) & (channel < channels)
    unit = channel * places + 8 * group  # its eight places may lie across two bytes
    byte = unit >> 3
    bytes_ = packed + row * width
    low = tl.load(bytes_ + byte, mask=there, other=0).to(tl.int32)
    high = tl.load(bytes_ + byte + 1, mask=there & (byte + 1 < width), other=0).to(tl.int32)
    eight = (low | (high << 8)) >> (unit & 7)
    k = tl.arange(0, 8)[None, :, None]
    place = 8 * group + k
    mask = there & (place < places)
    at = row * places * channels + place * channels + channel
    _end(q, at, mask, (eight >> k) & 1, scale, grad, out, count, SLOPE)
