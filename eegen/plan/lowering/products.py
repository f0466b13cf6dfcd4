"""Products with a matrix, with their epilogue, and the gradient of a matrix."""

from __future__ import annotations

from itertools import pairwise

from eegen.language.graph import Value
from eegen.plan.call import Arg
from eegen.plan.kernels.matrix import MOST_TRANSPOSED, Outer, Product, block
from eegen.plan.kernels.rows import ACCUMULATOR, OPERAND, RowProgram, Step
from eegen.plan.lowering.builder import Builder, label
from eegen.plan.records import up


def product(b: Builder, last: Value) -> None:
    """A product whose epilogue ends in `last`."""
    chain = b.context.fusion.chains[last]
    value = chain[0]
    x, weight = value.inputs
    parameter = b.storage(weight)
    steps, operands = [], []
    for number, (before, link) in enumerate(pairwise(chain)):
        accumulator = number - 1 if number else ACCUMULATOR
        others = [v for v in link.inputs if v is not before]
        operand, args = b.operand(others[0], last.domain) if others else (None, [])
        sources = tuple(accumulator if v is before else OPERAND for v in link.inputs)
        steps.append(Step(link.op.name, sources, operand, link.op.expression, link.op.flops))
        operands += args
    forward = value.op.reads == "in_out"
    other_way = parameter.flipped != forward
    transposed = other_way and parameter.packed < 0
    copy = Arg("packed" if other_way and not transposed else "weight", parameter.ident)
    n = b.width(value)
    k = inner_size(b, x)
    tile = b.context.product_tile(n // b.lanes, k)
    out = b.buffer(last)
    b.call(
        Product(
            k=k,
            n=n,
            lda=b.ld(x),
            ldb=parameter.packed_ld if copy.space == "packed" else parameter.ld,
            ldc=b.ld(last),
            tile=tile,
            epilogue=tuple(steps),
            prefix=b.target.product_words,
            streams=b.context.streams,
            transposed=transposed,
            paired=transposed and b.target.pairs_scalars and n == b.lanes and k in range(2 * n, MOST_TRANSPOSED + 1, 2),
            panel=tile.vectors * b.lanes * up(block(k, True), 16) if transposed else b.target.panel_floats(k, n),
            template=b.target.product_template,
        ),
        [read(b, x), copy, out, *operands],
        last.domain,
        [out.name],
        label(last),
    )


def inner_size(b: Builder, x: Value) -> int:
    """The inner size of a product with x: its real width, rounded up as the target's schedule needs it."""
    return up(x.width, b.target.inner_multiple) if len(x.shape) == 1 else b.width(x)


def read(b: Builder, value: Value) -> Arg:
    """A value as a whole matrix; a spread is written out first."""
    if value.op.kind == "spread" and value not in b.names:
        operand, args = b.operand(value, value.domain)
        out = b.buffer(value)
        steps = (Step("load", (), operand), Step("store", (0,), b.row_operand(value)))
        kernel = RowProgram(value.width, b.width(value) // b.lanes, steps, "spread")
        b.call(kernel, [*args, out], value.domain, [out.name], label(value))
    return b.buffer(value)


def outer(b: Builder, value: Value) -> None:
    """The gradient of a matrix; a second one of the same matrix adds to the first."""
    dy, x = value.inputs
    weight = b.context.gradient_of[value]
    parameter = b.storage(weight)
    left, right = (x, dy) if parameter.flipped else (dy, x)
    m, n = b.width(left), b.width(right)
    continues = weight in b.started
    kernel = Outer(
        m=m,
        n=n,
        lda=b.ld(left),
        ldb=b.ld(right),
        ldg=parameter.ld,
        packed_ld=parameter.packed_ld if parameter.fused else 0,
        tile=b.context.outer_tile(m, n // b.lanes),
        fused=parameter.fused,
        streams=b.context.streams,
        partial=b.target.exchanges_sums or continues,
        moments=b.context.moments if parameter.fused else (),
        template=b.target.outer_template,
    )
    b.call(
        kernel,
        [read(b, left), read(b, right), Arg("gradient", parameter.ident)],
        dy.domain,
        [f"gradient {parameter.ident}", *([f"weight {parameter.ident}"] if parameter.fused else [])],
        f"gradient of {label(weight)}",
        units=kernel.tiles,
        exchanges=b.target.exchanges_sums,
        continues=continues,
    )
    b.started.add(weight)
