"""Several numbers at once in compiled loops: loads, sums and products of 8 or 16 neighbours in a row of an array.

Numba leaves it to the compiler to find out which loops can take many numbers at once. For rows as short as those of a small
network the compiler's tests of that (do the arrays overlap? how long is the row?) cost more than the sums. With the type
`Lanes` a loop says it itself, and reads like the formula::

    sums = sixteen(b, (0, j))
    for k in range(inputs):
        sums = sums + x[0, k] * sixteen(W, (k, j))
    store(sums, out, (0, j))

Every operation rounds like the one on single numbers; nothing is reordered or contracted, so that NumPy gets the same bits
from the same sums. On processors whose registers are shorter the compiler takes several of them.

Nothing tests an index: what is loaded or stored must lie inside the array, which must be in C order. Numba's cache on disk does
not see a change of this file; it sees one of the file whose functions use it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.core.datamodel import models

NUMBERS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
compiled: Callable[[Callable[..., Any]], Any] = (
    extending.intrinsic
)  # a function that writes the code of a call itself
INDEX, LANE = ir.IntType(64), ir.IntType(32)


class Lanes(types.Type):
    """The type, in compiled code, of ``count`` numbers of type ``number``, float32 or float64."""

    def __init__(self, number: Any, count: int) -> None:
        self.number, self.count = number, count
        super().__init__(name=f"Lanes({number}, {count})")


@extending.register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        vector = ir.VectorType(NUMBERS[lanes.number], lanes.count)
        super().__init__(manager, lanes, vector)  # type: ignore[no-untyped-call]


# --- loading and storing ----------------------------------------------------------------------------------


def _address(context: Any, builder: Any, kinds: Any, arguments: Any, vector: Any) -> Any:
    """Return the address of ``array[index]`` as one of vectors."""
    array = context.make_array(kinds[0])(context, builder, arguments[0])
    place = ir.Constant(INDEX, 0)
    for size, i in zip(
        cgutils.unpack_tuple(builder, array.shape), cgutils.unpack_tuple(builder, arguments[1]), strict=True
    ):
        place = builder.add(builder.mul(place, size), i)
    return builder.bitcast(builder.gep(array.data, [place], inbounds=True), vector.as_pointer())


def _loading(count: int) -> Any:
    def load(_typing: Any, array: Any, index: Any) -> Any:
        lanes = Lanes(array.dtype, count)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = context.get_value_type(lanes)
            address = _address(context, builder, signature.args, arguments, vector)
            return builder.load(address, typ=vector, align=array.dtype.bitwidth // 8)

        return lanes(array, index), code

    return compiled(load)


eight = _loading(8)
"""``eight(array, index)``: the eight numbers from ``array[index]`` on."""
sixteen = _loading(16)
"""``sixteen(array, index)``: the sixteen numbers from ``array[index]`` on."""


@compiled
def store(_typing: Any, x: Any, array: Any, index: Any) -> Any:
    """Write x to ``array[index]`` and the places after it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[1:], arguments[1:], arguments[0].type)
        builder.store(arguments[0], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(x, array, index), code


# --- arithmetic -------------------------------------------------------------------------------------------


def _spread(context: Any, builder: Any, kind: Any, value: Any, lanes: Lanes) -> Any:
    """Return Lanes as they are, and a single number in every lane."""
    if isinstance(kind, Lanes):
        return value
    number = context.cast(builder, value, kind, lanes.number)
    nothing = ir.Constant(ir.VectorType(number.type, lanes.count), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(LANE, 0))
    return builder.shuffle_vector(
        first, nothing, ir.Constant(ir.VectorType(LANE, lanes.count), [0] * lanes.count)
    )


def _lane_by_lane(instruction: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a function of two arguments, of which one may be a single number."""

    def combine(_typing: Any, x: Any, y: Any) -> Any:
        lanes = x if isinstance(x, Lanes) else y

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pairs = zip(signature.args, arguments, strict=True)
            return instruction(builder, *(_spread(context, builder, *pair, lanes) for pair in pairs))

        return lanes(x, y), code

    return compiled(combine)


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_unordered(">", x, y), x, y)


def _smaller(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_unordered("<", x, y), x, y)


larger = _lane_by_lane(_larger)
"""``larger(x, y)``: the larger number of each lane; not a number (NaN) where x is NaN."""
smaller = _lane_by_lane(_smaller)
"""``smaller(x, y)``: the smaller number of each lane; NaN where x is NaN."""


def _operator(symbol: Any, instruction: Callable[[Any, Any, Any], Any]) -> None:
    combine = _lane_by_lane(instruction)

    @extending.overload(symbol)
    def with_lanes(x, y):  # type: ignore[no-untyped-def]  # Numba compares the annotations as well
        if isinstance(x, Lanes) or isinstance(y, Lanes):
            return lambda x, y: combine(x, y)
        return None


_operator(operator.add, lambda builder, x, y: builder.fadd(x, y))
_operator(operator.sub, lambda builder, x, y: builder.fsub(x, y))
_operator(operator.mul, lambda builder, x, y: builder.fmul(x, y))
_operator(operator.truediv, lambda builder, x, y: builder.fdiv(x, y))


@compiled
def chosen(_typing: Any, which: Any, x: Any, y: Any) -> Any:
    """Return the lanes of x where ``which`` is above 0, and y, Lanes or a number, elsewhere."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        above = builder.fcmp_ordered(">", arguments[0], ir.Constant(arguments[0].type, None))
        return builder.select(
            above, arguments[1], _spread(context, builder, signature.args[2], arguments[2], x)
        )

    return x(which, x, y), code


@compiled
def doubles(_typing: Any, x: Any) -> Any:
    """Return Lanes of float32 as float64."""
    wide = Lanes(types.float64, x.count)

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fpext(arguments[0], context.get_value_type(wide))

    return wide(x), code


# --- from many to one -------------------------------------------------------------------------------------


def _across(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a function from Lanes to a number: neighbours are combined, then pairs, then pairs of pairs …"""

    def reduce(_typing: Any, x: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            (vector,), step = arguments, 1
            while step < x.count:
                order = ir.Constant(ir.VectorType(LANE, x.count), [lane ^ step for lane in range(x.count)])
                vector = combine(builder, vector, builder.shuffle_vector(vector, vector, order))
                step *= 2
            return builder.extract_element(vector, ir.Constant(LANE, 0))

        return x.number(x), code

    return compiled(reduce)


summed = _across(lambda builder, x, y: builder.fadd(x, y))
"""``summed(x)``: the sum of all lanes: of pairs, of pairs of pairs, …"""
largest = _across(_larger)
"""``largest(x)``: the largest of all lanes."""
smallest = _across(_smaller)
"""``smallest(x)``: the smallest of all lanes."""
