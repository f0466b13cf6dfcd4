"""Pass 3: the values of a program become calls of kernels on buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from eegen.language.graph import Region, Value
from eegen.plan.call import Item
from eegen.plan.lowering import attention, loss, products, rows, tree
from eegen.plan.lowering.builder import Builder, Context, KernelTable
from eegen.plan.records import Buffer

Rule = Callable[[Builder, Value], None]

# The rule of each kind of op; ops on rows are collected first.
RULES: Mapping[str, Rule] = {
    "product": products.product,
    "outer": products.outer,
    "attention": attention.attention,
    "attention_grad": attention.attention_grad,
    "loss": loss.loss,
    "loss_grad": loss.loss_grad,
    "previous": tree.previous,
    "following": tree.following,
    "top_linear": tree.top_linear,
    "top_linear_grad": tree.top_linear_grad,
    "top_outer": tree.top_outer,
    "context": tree.context,
    "context_grad": tree.context_grad,
} | dict.fromkeys(rows.KINDS, rows.row_op)
NO_CALL = ("parameter", "constant")


class Lowered(NamedTuple):
    """The calls of each procedure, the buffers they work on, the buffer of each value, sums of threads."""

    procedures: Mapping[str, tuple[Item, ...]]
    buffers: Mapping[str, Buffer]
    names: Mapping[Value, str]
    sums: Mapping[str, int]


class Section(NamedTuple):
    """What a procedure computes: regions in their order, and the values that it leaves as whole matrices."""

    name: str
    regions: Sequence[Region]
    results: Sequence[Value] = ()


def lower(context: Context, kernels: KernelTable, sections: Sequence[Section]) -> Lowered:
    """Emit the calls of every section, a procedure each."""
    builder = Builder(context, kernels)
    found: dict[str, tuple[Item, ...]] = {}
    emitted: set[Value] = set()
    for section in sections:
        builder.items = []
        waiting: list[Value] = []
        for region in section.regions:
            if region.loop is not None:
                rows.flush(builder)
                before = builder.begin_loop(region.loop)
            for value in region.values:
                emit(builder, value, emitted, waiting)
            if region.loop is not None:
                rows.flush(builder)
                builder.end_loop(before)
        rows.flush(builder)
        for result in section.results:
            products.read(builder, result)
        assert not waiting, "the gradient of a matrix waits for a product that is never computed"
        found[section.name] = tuple(builder.items)
    return Lowered(found, builder.buffers, builder.names, builder.sums)


def emit(builder: Builder, value: Value, emitted: set[Value], waiting: list[Value]) -> None:
    """Emit the calls of a value, and the gradients that waited for it.

    A gradient that updates its weights at once waits for the last product with the old ones.
    """
    context = builder.context
    kind = value.op.kind
    if kind in NO_CALL or (value in context.fusion.inside and value not in context.fusion.chains):
        return
    if value in context.fusion.chains:
        rows.flush(builder)
        products.product(builder, value)
        emitted.update(context.fusion.chains[value])
    elif kind == "outer" and context.layout[context.gradient_of[value]].fused:
        rows.flush(builder)
        waiting.append(value)
    else:
        if kind not in rows.KINDS:
            rows.flush(builder)
        RULES[kind](builder, value)
        emitted.add(value)
    for gradient in list(waiting):
        readers = context.uses[context.gradient_of[gradient]]
        if all(reader in emitted for reader in readers):
            waiting.remove(gradient)
            products.outer(builder, gradient)
