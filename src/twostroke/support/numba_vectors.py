"""Eight units at once, for `numba_kernels`: vector operations written in LLVM's terms.

A loop becomes a vector operation only where the compiler sees that no arrays overlap, which in place they do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BIT, _BYTE, _WORD = ir.IntType(1), ir.IntType(8), ir.IntType(64)


def _eight(kind: ir.Type) -> ir.VectorType:
    return ir.VectorType(kind, 8)


def _alike(builder: Any, value: Any) -> Any:
    """`value` eight times."""
    one = builder.insert_element(
        ir.Constant(_eight(value.type), ir.Undefined), value, ir.IntType(32)(0)
    )
    return builder.shuffle_vector(one, one, ir.Constant(_eight(ir.IntType(32)), [0] * 8))


def _place(builder: Any, start: Any, at: Any) -> Any:
    """Where eight values from `at` on lie."""
    kind = _eight(start.type.pointee)
    return builder.bitcast(builder.gep(start, [at]), kind.as_pointer())


def _align(start: Any) -> int:
    width: int = start.type.pointee.width
    return width // 8


def _keep(builder: Any, q: Any, out: Any, at: Any, on: Any) -> None:
    values = builder.load(_place(builder, q, at), align=_align(q))
    kept = builder.select(on, values, ir.Constant(values.type, [0] * 8))
    builder.store(kept, _place(builder, out, at), align=_align(out))


def _marked(builder: Any, q: Any, at: Any, shift: Any, edge: Any, off: Any) -> Any:
    values = builder.load(_place(builder, q, at), align=_align(q))
    shifted = builder.sub(values, _alike(builder, shift))
    above = builder.icmp_signed(">", shifted, _alike(builder, edge))
    return builder.and_(above, builder.icmp_signed("!=", values, _alike(builder, off)))


@intrinsic
def pointer(typing, address, like):
    """An address as one of numbers like `like`."""

    def code(context, builder, signature, given):
        return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), code


@intrinsic
def word_at(typing, address):
    """Eight bytes from an address on, which need not be a multiple of eight."""

    def code(context, builder, signature, given):
        place = builder.inttoptr(given[0], _WORD.as_pointer())
        return builder.load(place, align=1)

    return types.uint64(types.int64), code


def _squares(builder: Any, values: Any, wide: ir.Type) -> Any:
    """Squares as floats; integers are bfloat16s, the front of a float32."""
    if isinstance(values.type.element, ir.IntType):
        bits = builder.zext(values, _eight(ir.IntType(32)))
        bits = builder.shl(bits, ir.Constant(bits.type, [16] * 8))
        values = builder.bitcast(bits, _eight(wide))
    return builder.fmul(values, values)


@intrinsic
def add_squares(typing, q, at, sums, into):
    """Eight units: `sums[into + k] += q[at + k] ** 2`."""

    def code(context, builder, signature, given):
        q, at, sums, into = given
        place = _place(builder, sums, into)
        values = builder.load(_place(builder, q, at), align=2)
        added = builder.fadd(
            builder.load(place, align=4), _squares(builder, values, sums.type.pointee)
        )
        builder.store(added, place, align=4)
        return context.get_dummy_value()

    return types.void(q, types.intp, sums, types.intp), code


@intrinsic
def keep(typing, q, out, at, byte):
    """Eight units from `at` on: `out[at + k]` becomes `q[at + k]` where bit k of `byte` is on, else 0."""

    def code(context, builder, signature, given):
        q, out, at, byte = given
        _keep(builder, q, out, at, builder.bitcast(byte, _eight(_BIT)))
        return context.get_dummy_value()

    return types.void(q, out, types.intp, types.uint8), code


@intrinsic
def keep_across(typing, q, out, at, word, bit):
    """The same, where the mask of `at + k` is that `bit` of the k-th byte of `word`."""

    def code(context, builder, signature, given):
        q, out, at, word, bit = given
        turned = builder.bitcast(builder.lshr(word, bit), _eight(_BYTE))
        _keep(builder, q, out, at, builder.trunc(turned, _eight(_BIT)))
        return context.get_dummy_value()

    return types.void(q, out, types.intp, types.uint64, types.uint64), code


@intrinsic
def mark(typing, q, at, shift, edge, off):
    """Eight units from `at` on as a byte: bit k says `q[at + k] - shift > edge and q[at + k] != off`."""

    def code(context, builder, signature, given):
        return builder.bitcast(_marked(builder, *given), _BYTE)

    return types.uint8(q, types.intp, q.dtype, q.dtype, q.dtype), code


@intrinsic
def mark_across(typing, q, at, shift, edge, off):
    """The same as a word: its k-th byte is 1 or 0."""

    def code(context, builder, signature, given):
        bytes_ = builder.zext(_marked(builder, *given), _eight(_BYTE))
        return builder.bitcast(bytes_, _WORD)

    return types.uint64(q, types.intp, q.dtype, q.dtype, q.dtype), code
