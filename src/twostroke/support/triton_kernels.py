"""Kernels for a GPU in Triton; `gpu` launches them.

A program takes whole bytes of masks. `_flat` kernels read tensors whose units lie in the order of the bits;
`_last` kernels read channels-last tensors in tiles of channels by groups of eight places, so that values
are read side by side although the bits of a channel are far from those of the next.

Offsets are 32 bits wide unless `WIDE`. What is off becomes +0, or `SLOPE` times the value.
"""

import triton
import triton.language as tl


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _switch(value, on, SLOPE: tl.constexpr):
    """The value where it is on; the product has the precision that PyTorch gives it."""
    if SLOPE == 0.0:
        off = tl.full((), 0.0, value.dtype)
    elif value.dtype == tl.float64:
        off = value * tl.full((), SLOPE, tl.float64)
    else:
        off = (value.to(tl.float32) * tl.full((), SLOPE, tl.float32)).to(value.dtype)
    return tl.where(on, value, off)


@triton.jit
def _on(value, CLOSED: tl.constexpr, INFINITY: tl.constexpr):
    """ReLU's own rule, of the bits of a float: above zero, undefined, or if CLOSED a zero of any sign."""
    if value.dtype == tl.float64:
        signed = value.to(tl.int64, bitcast=True)
        size = signed & 0x7FFFFFFFFFFFFFFF
    elif value.dtype == tl.float32:
        signed = value.to(tl.int32, bitcast=True)
        size = signed & 0x7FFFFFFF
    else:
        signed = value.to(tl.int16, bitcast=True).to(tl.int32)
        size = signed & 0x7FFF
    on = (signed > 0) | (size > INFINITY)
    if CLOSED:
        on = on | (size == 0)
    return on.to(tl.int32)


@triton.jit
def _bytes(total, width, BYTES: tl.constexpr, WIDE: tl.constexpr):
    """This program's bytes, counted over all rows: row, place within the row, whether there is one."""
    first = tl.program_id(0)
    if WIDE:
        first = first.to(tl.int64)
    byte = first * BYTES + tl.arange(0, BYTES)
    row = byte // width
    return row, byte - row * width, byte < total


@triton.jit
def _tile(tiles_across, tiles, GROUPS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr):
    """This program's row, groups of eight places (GROUPS, 1, 1) and channels (1, 1, CHANNELS)."""
    tile = tl.program_id(0)
    row = tile // tiles
    tile -= row * tiles
    group = (tile // tiles_across) * GROUPS + tl.arange(0, GROUPS)
    channel = (tile % tiles_across) * CHANNELS + tl.arange(0, CHANNELS)
    if WIDE:
        row = row.to(tl.int64)
    return row, group[:, None, None], channel[None, None, :]


@triton.jit(do_not_specialize=["total", "width", "stride"])
def select_flat(
    q,  # (rows, units)
    packed,  # (rows or 1, width) uint8, rows `stride` bytes apart
    out,  # like q
    units,
    total,  # bytes of all rows
    width,  # bytes of a row
    stride,
    SLOPE: tl.constexpr,
    WHOLE: tl.constexpr,  # no spare bits
    WIDE: tl.constexpr,
    BYTES: tl.constexpr,
):
    """`q` where a bit is on."""
    row, place, there = _bytes(total, width, BYTES, WIDE)
    byte = tl.load(packed + row * stride + place, mask=there, other=0).to(tl.int32)
    bit = tl.arange(0, 8)[None, :]
    unit = 8 * place[:, None] + bit
    mask = there[:, None] & (bit < 8) if WHOLE else there[:, None] & (unit < units)
    at = (row * units)[:, None] + unit
    value = tl.load(q + at, mask=mask)
    on = ((byte[:, None] >> bit) & 1) != 0
    tl.store(out + at, _switch(value, on, SLOPE), mask=mask)


@triton.jit(do_not_specialize=["width", "stride", "tiles_across", "tiles"])
def select_last(
    q,  # (rows, places, channels)
    packed,  # (rows or 1, width) uint8, rows `stride` bytes apart
    out,  # like q
    channels,
    places,
    width,
    stride,
    tiles_across,  # tiles that the channels take
    tiles,  # tiles that a row takes
    SLOPE: tl.constexpr,
    WHOLE: tl.constexpr,  # every channel begins with a byte of its own
    WIDE: tl.constexpr,
    GROUPS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """`q` where a bit is on, channels last."""
    row, group, channel = _tile(tiles_across, tiles, GROUPS, CHANNELS, WIDE)
    there = (8 * group < places) & (channel < channels)
    bytes_ = packed + row * stride
    if WHOLE:
        bits = tl.load(bytes_ + channel * (places // 8) + group, mask=there, other=0).to(tl.int32)
    else:  # eight places lie across two bytes
        unit = channel * places + 8 * group
        byte = unit >> 3
        low = tl.load(bytes_ + byte, mask=there, other=0).to(tl.int32)
        more = there & (byte + 1 < width)
        high = tl.load(bytes_ + byte + 1, mask=more, other=0).to(tl.int32)
        bits = (low | (high << 8)) >> (unit & 7)
    bit = tl.arange(0, 8)[None, :, None]
    place = 8 * group + bit
    mask = there & (bit < 8) if WHOLE else there & (place < places)
    at = row * places * channels + place * channels + channel
    value = tl.load(q + at, mask=mask)
    tl.store(out + at, _switch(value, ((bits >> bit) & 1) != 0, SLOPE), mask=mask)


@triton.jit(do_not_specialize=["total", "width"])
def pack_flat(
    q,  # (rows, units), or (rows, places, channels) if LAST
    packed,  # (rows, width) uint8
    units,
    channels,
    places,
    total,
    width,
    CLOSED: tl.constexpr,
    INFINITY: tl.constexpr,  # its bits
    LAST: tl.constexpr,
    WHOLE: tl.constexpr,  # no spare bits
    WIDE: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Where ReLU is on; channels last, values are gathered, which serves any number of places."""
    row, place, there = _bytes(total, width, BYTES, WIDE)
    bit = tl.arange(0, 8)[None, :]
    unit = 8 * place[:, None] + bit
    mask = there[:, None] & (bit < 8) if WHOLE else there[:, None] & (unit < units)
    if LAST:
        channel = unit // places
        at = (row * units)[:, None] + (unit - channel * places) * channels + channel
    else:
        at = (row * units)[:, None] + unit
    on = _on(tl.load(q + at, mask=mask, other=-1.0), CLOSED, INFINITY)
    byte = tl.reduce(on << bit, 1, _add)
    tl.store(packed + row * width + place, byte.to(tl.uint8), mask=there)


@triton.jit(do_not_specialize=["width", "tiles_across", "tiles"])
def pack_last(
    q,  # (rows, places, channels)
    packed,  # (rows, width) uint8
    channels,
    places,  # a multiple of 8
    width,
    tiles_across,
    tiles,
    CLOSED: tl.constexpr,
    INFINITY: tl.constexpr,  # its bits
    WIDE: tl.constexpr,
    GROUPS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Where ReLU is on, channels last, every channel in bytes of its own."""
    row, group, channel = _tile(tiles_across, tiles, GROUPS, CHANNELS, WIDE)
    there = (8 * group < places) & (channel < channels)
    bit = tl.arange(0, 8)[None, :, None]
    at = row * places * channels + (8 * group + bit) * channels + channel
    on = _on(tl.load(q + at, mask=there & (bit < 8), other=-1.0), CLOSED, INFINITY)
    byte = tl.reduce(on << bit, 1, _add, keep_dims=True)
    to = packed + row * width + channel * (places // 8) + group
    tl.store(to, byte.to(tl.uint8), mask=there)
