"""Ops along the prefix tree: what loops carry, products with the largest entries, contexts of the last tokens."""

from __future__ import annotations

from eegen.language.formats import I32
from eegen.language.graph import Value
from eegen.plan.call import Arg
from eegen.plan.kernels.rows import RowProgram, Step
from eegen.plan.kernels.sparse import TopLinear, TopOuter
from eegen.plan.kernels.tree import Context, ParentRows
from eegen.plan.lowering.builder import Builder, label
from eegen.plan.lowering.products import read


def previous(b: Builder, value: Value) -> None:
    """The state of each row's parent."""
    assert b.loop is not None
    out = b.buffer(value)
    kernel = ParentRows(b.ld(b.loop.value), b.ld(value), b.width(value))
    b.call(kernel, [b.buffer(b.loop.value), Arg("index", "parent"), out], value.domain, [out.name], label(value))


def following(b: Builder, value: Value) -> None:
    """The sum of a gradient over each row's children, which are the rows of the level below."""
    assert b.loop is not None
    out, source = b.buffer(value), b.loop.value
    b.clear(out, value)
    steps = (
        Step("load", (), b.row_operand(source)),
        Step("accumulate", (0,), b.row_operand(value, "parent")),
    )
    kernel = RowProgram(value.width, b.width(value) // b.lanes, steps, "sum_to_parent")
    b.call(kernel, [b.buffer(source), out, Arg("index", "parent")], "below", [out.name], label(value))


def top_linear(b: Builder, value: Value) -> None:
    x, weight = value.inputs
    out, chosen = b.buffer(value), chosen_of(b, x, value.attrs["top_k"])
    kernel = top_kernel(b, x, weight, b.ld(x), b.ld(value), value.attrs["top_k"], False)
    args = [read(b, x), Arg("weight", b.storage(weight).ident), chosen, out]
    b.call(kernel, args, value.domain, [chosen.name, out.name], label(value))


def top_linear_grad(b: Builder, value: Value) -> None:
    dy, x, weight = value.inputs
    out, most = b.buffer(value), value.attrs["top_k"]
    kernel = top_kernel(b, x, weight, b.ld(dy), b.ld(value), most, True)
    args = [read(b, dy), Arg("weight", b.storage(weight).ident), chosen_of(b, x, most), out]
    b.call(kernel, args, value.domain, [out.name], label(value))


def top_outer(b: Builder, value: Value) -> None:
    dy, x = value.inputs
    weight = b.context.gradient_of[value]
    parameter = b.storage(weight)
    b.clear_gradient(weight)
    most = value.attrs["top_k"]
    kernel = TopOuter(parameter.cols, b.ld(x), b.ld(dy), parameter.ld, most, parameter.cols // b.lanes)
    args = [chosen_of(b, x, most), read(b, x), read(b, dy), Arg("gradient", parameter.ident)]
    name = f"gradient {parameter.ident}"
    b.call(kernel, args, x.domain, [name], f"gradient of {label(weight)}", units=kernel.vectors)


def top_kernel(b: Builder, x: Value, weight: Value, ld: int, out_ld: int, most: int, backward: bool) -> TopLinear:
    parameter = b.storage(weight)
    return TopLinear(x.width, parameter.cols, b.lanes, ld, out_ld, parameter.ld, most, backward)


def chosen_of(b: Builder, x: Value, most: int) -> Arg:
    """The list of the largest entries of each row of x: how many, then which."""
    return b.auxiliary(f"chosen_{b.buffer(x).name}", x.domain, TopLinear.list_size(most), I32)


def context(b: Builder, value: Value) -> None:
    (table,) = value.inputs
    out, parameter = b.buffer(value), b.storage(table)
    kernel = Context(value.attrs["length"], table.shape[1], parameter.ld, b.ld(value), backward=False)
    b.call(kernel, [Arg("weight", parameter.ident), out], value.domain, [out.name], label(value))


def context_grad(b: Builder, value: Value) -> None:
    (dy,) = value.inputs
    table = b.context.gradient_of[value]
    sums = b.sum_of(table)
    kernel = Context(value.attrs["length"], table.shape[1], b.storage(table).ld, b.ld(dy), backward=True)
    written = f"gradient {sums.name}"
    b.call(kernel, [sums, read(b, dy)], dy.domain, [written], f"gradient of {label(table)}")
