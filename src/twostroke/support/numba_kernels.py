"""The kernels that `kernels` calls, compiled by numba.

Floats are read as integers of their size: one kernel then serves every precision, and what is off becomes
exactly +0, also under infinity and NaN. Eight units are one vector operation (`numba_vectors`).

Kernels are C functions of one address, that of their numbers: numba's own calls would make an array of
each tensor first, which takes longer than a small mask. They run without the interpreter's lock, on the threads
of PyTorch's own operations, each of which finds in its cache what it has just computed; a pool of other
threads lost more by that than it gained. They are compiled at first use, about a second each, and kept on
disk where numba's cache can be written.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from types import SimpleNamespace

import numba
import numpy as np
from llvmlite import binding
from numba import carray, types

from .numba_vectors import add_squares, keep, keep_across, mark, mark_across, pointer, word_at


def _openmp():
    """PyTorch's OpenMP library, or None where its functions have no GNU names."""
    try:
        library = ctypes.CDLL(None)  # what PyTorch has loaded for all
        library.GOMP_parallel.argtypes = [*[ctypes.c_void_p] * 2, *[ctypes.c_uint] * 2]
        library.GOMP_parallel.restype = None
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            binding.add_symbol(f"twostroke_{name}", address)
        return library
    except (AttributeError, OSError, TypeError):
        return None


OPENMP = _openmp()
_thread = types.ExternalFunction("twostroke_omp_get_thread_num", types.int32())
_threads = types.ExternalFunction("twostroke_omp_get_num_threads", types.int32())


def _share(parts, wanted):
    """First part of this thread, of so many that are wanted, and the one after its last."""
    if wanted == 1:  # this thread may be one of a team that has nothing to do with us
        return 0, parts
    threads = min(wanted, _threads())
    me = min(_thread(), threads)  # of those that are too many, each has nothing
    return parts * me // threads, parts * min(me + 1, threads) // threads


def _whole(parts, wanted):
    return 0, parts


_share = numba.njit(_share if OPENMP is not None else _whole)


def _later(function):
    """What gives the C function, and compiles it when it is asked for the first time."""

    @lru_cache(maxsize=1)
    def compiled():
        made = numba.cfunc(types.void(types.CPointer(types.int64)), cache=True)(function)
        called = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(made.address)
        called.made = made  # whose code lives as long
        return called

    return compiled


@numba.njit
def _turn(row, turned, first, pixels, channels):
    """Byte c of `turned` becomes the bits of the eight pixels from `first` on of channel c."""
    last = (pixels * channels + 7) // 8 - 1
    if pixels % 8 == 0:
        for c in range(channels):
            turned[c] = row[c * (pixels >> 3) + (first >> 3)]
    else:
        for c in range(channels):
            u = c * pixels + first
            pair = int(row[u >> 3]) | int(row[min((u >> 3) + 1, last)]) << 8
            turned[c] = pair >> (u & 7) & 255


@numba.njit
def _turn_back(row, turned, first, pixels, channels):
    """The reverse, into a row of zeros."""
    if pixels % 8 == 0:
        for c in range(channels):
            row[c * (pixels >> 3) + (first >> 3)] = turned[c]
    else:
        for c in range(channels):
            u = c * pixels + first
            pair = int(turned[c]) << (u & 7)
            row[u >> 3] |= pair & 255
            if pair >> 8:
                row[(u >> 3) + 1] |= pair >> 8


@lru_cache(maxsize=3)
def energy(kind: str):
    """The kernel that adds up the squares of a "float32", "float64" or "bfloat16" over the rows."""
    zero = np.float64(0) if kind == "float64" else np.float32(0)
    like = np.int16(0) if kind == "bfloat16" else zero

    @_later
    def energy(given):
        # eights of units, threads; q (rows, units), sums (units,), rows
        start, stop = _share(given[0], given[1])
        q, sums, rows = pointer(given[2], like), pointer(given[3], zero), given[4]
        values = carray(sums, (8 * stop,))
        for first in range(start, stop, 512):  # their sums stay in the cache
            end = min(first + 512, stop)
            for u in range(8 * first, 8 * end):
                values[u] = zero
            for i in range(rows):
                row = i * 8 * given[0]
                for j in range(first, end):
                    add_squares(q, row + 8 * j, sums, 8 * j)

    return energy


@lru_cache(maxsize=1)
def pack_mask():
    """The kernel that packs truth values, a byte each."""
    byte = np.uint8(0)
    # eight 0/1 bytes of a little-endian word, times this, leave their bits in the topmost byte
    gather, top = np.uint64(0x0102040810204080), np.uint64(56)

    @_later
    def pack_mask(given):
        # rows, threads; mask (rows, units), packed (rows, width), units, width
        start, stop = _share(given[0], given[1])
        units, width = given[4], given[5]
        packed = carray(pointer(given[3], byte), (stop, width))
        whole = units // 8
        for i in range(start, stop):
            row = given[2] + i * units
            for j in range(whole):
                packed[i, j] = word_at(row + 8 * j) * gather >> top
            if whole < width:
                rest, bits = carray(pointer(row + 8 * whole, byte), (8,)), 0
                for k in range(units - 8 * whole):
                    bits |= int(rest[k]) << k
                packed[i, whole] = bits

    return pack_mask


@lru_cache(maxsize=4)
def compiled(size: int) -> SimpleNamespace:
    """The kernels of masks, for floats of so many bytes."""
    empty = np.empty
    integer = getattr(np, f"int{8 * size}")
    one, byte = integer(1), np.uint8(0)

    # `given` begins with the number of rows, and of threads that share them. `stride` is bytes from row to
    # row of `packed`, 0 where all rows have the first one's masks

    @_later
    def select(given):
        start, stop = _share(given[0], given[1])
        q, out, stride, units = pointer(given[2], one), pointer(given[4], one), given[5], given[6]
        masks = carray(pointer(given[3], byte), (stop, stride or (units + 7) // 8))
        before, after = carray(q, (stop * units,)), carray(out, (stop * units,))
        whole = units // 8
        for i in range(start, stop):
            row = masks[i if stride else 0]
            first = i * units
            for j in range(whole):
                keep(q, out, first + 8 * j, row[j])
            for u in range(8 * whole, units):
                # minus one is all ones
                after[first + u] = before[first + u] & -((one * row[whole] >> (u & 7)) & one)

    @_later
    def pack(given):
        start, stop = _share(given[0], given[1])
        q, stride, units = pointer(given[2], one), given[4], given[5]
        masks, values = carray(pointer(given[3], byte), (stop, stride)), carray(q, (stop * units,))
        shift, edge, off = integer(given[6]), integer(given[7]), integer(given[8])
        whole = units // 8
        for i in range(start, stop):
            first = i * units
            for j in range(whole):
                masks[i, j] = mark(q, first + 8 * j, shift, edge, off)
            if whole < stride:
                bits = 0
                for k in range(units - 8 * whole):
                    value = values[first + 8 * whole + k]
                    bits |= int((integer(value - shift) > edge) & (value != off)) << k
                masks[i, whole] = bits

    # `both` becomes where ReLU's own rule and `packed` say on, and `out` what that leaves of `q`
    @_later
    def gate(given):
        start, stop = _share(given[0], given[1])
        q, out, stride, width = pointer(given[2], one), pointer(given[4], one), given[6], given[7]
        units, shift, edge, off = (
            given[8],
            integer(given[9]),
            integer(given[10]),
            integer(given[11]),
        )
        masks = carray(pointer(given[3], byte), (stop, stride or (units + 7) // 8))
        both = carray(pointer(given[5], byte), (stop, width))
        before, after = carray(q, (stop * units,)), carray(out, (stop * units,))
        whole = units // 8
        for i in range(start, stop):
            row = masks[i if stride else 0]
            first = i * units
            for j in range(whole):
                on = mark(q, first + 8 * j, shift, edge, off) & row[j]
                keep(q, out, first + 8 * j, on)
                both[i, j] = on
            if whole < width:
                bits = 0
                for k in range(units - 8 * whole):
                    value = before[first + 8 * whole + k]
                    own = (integer(value - shift) > edge) & (value != off)
                    bit = int(own) & (int(row[whole]) >> k)
                    bits |= bit << k
                    after[first + 8 * whole + k] = value & -integer(bit)
                both[i, whole] = bits

    # channels last: q, out (rows, pixels, channels); unit `c * pixels + p` is pixel p of channel c. Byte c of
    # `turned` has the bits of eight pixels of channel c, and `words` are eight such bytes each

    @_later
    def select_last(given):
        start, stop = _share(given[0], given[1])
        q, out, stride = pointer(given[2], one), pointer(given[4], one), given[5]
        pixels, channels = given[6], given[7]
        size = stop * pixels * channels
        masks = carray(pointer(given[3], byte), (stop, stride or (pixels * channels + 7) // 8))
        before, after = carray(q, (size,)), carray(out, (size,))
        turned = empty((channels + 7) & -8, np.uint8)
        words = turned.view(np.uint64)
        for i in range(start, stop):
            row = masks[i if stride else 0]
            for first in range(0, pixels, 8):
                _turn(row, turned, first, pixels, channels)
                for k in range(min(8, pixels - first)):
                    at = (i * pixels + first + k) * channels
                    for c in range(channels >> 3):
                        keep_across(q, out, at + 8 * c, words[c], k)
                    for c in range(channels & -8, channels):
                        after[at + c] = before[at + c] & -((one * turned[c] >> k) & one)

    @_later
    def pack_last(given):
        start, stop = _share(given[0], given[1])
        q, stride, pixels, channels = pointer(given[2], one), given[4], given[5], given[6]
        # `packed` comes as zeros
        masks = carray(pointer(given[3], byte), (stop, stride))
        values = carray(q, (stop * pixels * channels,))
        turned = empty((channels + 7) & -8, np.uint8)
        words = turned.view(np.uint64)
        shift, edge, off = integer(given[7]), integer(given[8]), integer(given[9])
        for i in range(start, stop):
            row = masks[i]
            for first in range(0, pixels, 8):
                words[:] = 0
                for k in range(min(8, pixels - first)):
                    at = (i * pixels + first + k) * channels
                    for c in range(channels >> 3):
                        words[c] |= mark_across(q, at + 8 * c, shift, edge, off) << np.uint64(k)
                    for c in range(channels & -8, channels):
                        value = values[at + c]
                        on = (integer(value - shift) > edge) & (value != off)
                        turned[c] |= np.uint8(int(on) << k)
                _turn_back(row, turned, first, pixels, channels)

    @_later
    def gate_last(given):
        # `both` comes as zeros
        start, stop = _share(given[0], given[1])
        q, out, stride, width = pointer(given[2], one), pointer(given[4], one), given[6], given[7]
        pixels, channels = given[8], given[9]
        shift, edge, off = integer(given[10]), integer(given[11]), integer(given[12])
        masks = carray(pointer(given[3], byte), (stop, stride or (pixels * channels + 7) // 8))
        both = carray(pointer(given[5], byte), (stop, width))
        size = stop * pixels * channels
        before, after = carray(q, (size,)), carray(out, (size,))
        turned, kept = empty((channels + 7) & -8, np.uint8), empty((channels + 7) & -8, np.uint8)
        words, kept_words = turned.view(np.uint64), kept.view(np.uint64)
        lowest = np.uint64(0x0101010101010101)
        for i in range(start, stop):
            row, result = masks[i if stride else 0], both[i]
            for first in range(0, pixels, 8):
                _turn(row, turned, first, pixels, channels)
                kept_words[:] = 0
                for k in range(min(8, pixels - first)):
                    at = (i * pixels + first + k) * channels
                    for c in range(channels >> 3):
                        on = mark_across(q, at + 8 * c, shift, edge, off)
                        on &= words[c] >> np.uint64(k) & lowest
                        keep_across(q, out, at + 8 * c, on, 0)
                        kept_words[c] |= on << np.uint64(k)
                    for c in range(channels & -8, channels):
                        value = before[at + c]
                        own = (integer(value - shift) > edge) & (value != off)
                        bit = int(own) & (int(turned[c]) >> k)
                        kept[c] |= np.uint8(bit << k)
                        after[at + c] = value & -integer(bit)
                _turn_back(result, kept, first, pixels, channels)

    return SimpleNamespace(
        select=select,
        pack=pack,
        gate=gate,
        select_last=select_last,
        pack_last=pack_last,
        gate_last=gate_last,
    )
