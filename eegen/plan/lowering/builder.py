"""What the lowering rules share while they emit the calls of a program: buffers, kernels, the calls so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar, cast

from eegen.language.formats import F32, Format
from eegen.language.graph import Loop, Value
from eegen.plan.build_config import BuildConfig
from eegen.plan.call import Arg, Call, CallLoop, Item
from eegen.plan.fuse import Fusion
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.kernels.matrix import outer_shape, product_shape
from eegen.plan.kernels.rows import Operand, Zero
from eegen.plan.layout import Layout, apart, row_unit
from eegen.plan.records import Buffer, Parameter, up
from eegen.targets import Target, Tile

K = TypeVar("K", bound=Kernel)


class KernelTable:
    """The kernels of a plan: an equal one is there once, under a name of its own."""

    def __init__(self) -> None:
        self._kernels: dict[Kernel, Kernel] = {}

    def add(self, kernel: K) -> K:
        """The kernel that is printed for this one."""
        if kernel not in self._kernels:
            for part in kernel.parts:
                self.add(part)
            taken = {known.name for known in self._kernels.values()}
            name, number = kernel.stem, 1
            while name in taken:
                number += 1
                name = f"{kernel.stem}_{number}"
            self._kernels[kernel] = replace(kernel, name=name)
        return cast(K, self._kernels[kernel])

    @property
    def all(self) -> tuple[Kernel, ...]:
        return tuple(self._kernels.values())


class Context(NamedTuple):
    """What the lowering of a program reads and does not change."""

    build: BuildConfig
    target: Target
    layout: Layout
    uses: Mapping[Value, list[Value]]
    gradient_of: Mapping[Value, Value]  # a term of a gradient -> the parameter
    fusion: Fusion
    moments: tuple[str, ...]
    streams: bool  # weights, packed copies and moments do not fit L2

    def product_tile(self, vectors: int, k: int) -> Tile:
        """The register tile of a product: the one measured on this machine, or the target's own."""
        chosen = dict(self.build.tiles).get(product_shape(vectors, k))
        return self.target.tile_of(vectors, chosen) if chosen else self.target.tile(vectors, k)

    def outer_tile(self, m: int, vectors: int) -> Tile:
        """The same of a weight's gradient."""
        chosen = dict(self.build.tiles).get(outer_shape(m, vectors))
        return self.target.outer_tile_of(vectors, chosen) if chosen else self.target.outer_tile(m, vectors, multiple=4)


@dataclass
class Builder:
    """The calls and buffers of a program while they are made."""

    context: Context
    kernels: KernelTable
    buffers: dict[str, Buffer] = field(default_factory=dict)
    names: dict[Value, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    loop: Loop | None = None  # the one whose calls are being emitted
    started: set[Value] = field(default_factory=set)  # parameters whose gradient holds something
    sums: dict[str, int] = field(default_factory=dict)
    rows: list[Value] = field(default_factory=list)  # ops on rows that wait to become one row program

    @property
    def target(self) -> Target:
        return self.context.target

    @property
    def lanes(self) -> int:
        return self.context.target.lanes

    def storage(self, value: Value) -> Parameter:
        return self.context.layout[value]

    def width(self, value: Value) -> int:
        """Numbers of a row, every part of it padded to whole vectors."""
        *outer, last = value.shape
        size = up(last, row_unit(self.target))
        for extent in outer:
            size *= extent
        return size

    def ld(self, value: Value) -> int:
        """Numbers from a row to the next: more than its width where only kernels that take a stride touch it."""
        strided = all(user.op.strided for user in (value, *self.context.uses.get(value, ())))
        return apart(self.width(value)) if strided else self.width(value)

    def buffer(self, value: Value) -> Arg:
        """The row buffer of a value, named after its label or its op."""
        if value not in self.names:
            name = stem = value.label or value.op.name
            number = 1
            while name in self.buffers:
                number += 1
                name = f"{stem}{number}"
            self.names[value] = name
            self.buffers[name] = Buffer(name, value.domain, self.ld(value), value.format)
        return Arg("rows", self.names[value])

    def auxiliary(self, name: str, domain: str, ld: int, format: Format = F32) -> Arg:
        """A buffer that is no value's: what one kernel leaves to another."""
        self.buffers.setdefault(name, Buffer(name, domain, ld, format))
        return Arg("rows", name)

    def operand(self, value: Value, domain: str) -> tuple[Operand, list[Arg]]:
        """How a kernel over rows of `domain` reads a value: a spread is read through its index."""
        if value.op.kind == "spread" and value not in self.names:
            source = value.inputs[0]
            return self.row_operand(source, "pair_of"), [self.buffer(source), Arg("index", "pair_of")]
        if value.domain == "param":
            parameter = self.storage(value)
            operand = Operand("weights", parameter.ld, name=parameter.ident, format=parameter.format)
            return operand, [Arg("weight", parameter.ident)]
        return self.row_operand(value), [self.buffer(value)]

    def row_operand(self, value: Value, gather: str = "") -> Operand:
        """The rows of a value as a step reads or writes them; `gather` names the index array that picks one."""
        return Operand("rows", self.ld(value), gather, label(value), value.format)

    # --- calls --------------------------------------------------------------------------------------

    def call(
        self,
        kernel: Kernel,
        args: list[Arg],
        domain: str,
        writes: list[str],
        result: str = "",
        *,
        once: int = 0,
        units: int = 0,
        exchanges: bool = False,
        continues: bool = False,
    ) -> None:
        """Emit a call. In a loop over levels the prefix rows are those of the level."""
        names = [
            arg.name if arg.space == "rows" else f"weight {arg.name}"
            for arg in args
            if arg.space in ("rows", "weight", "packed")
        ]
        reads = tuple(name for name in names if name not in writes)
        once_each = [arg for i, arg in enumerate(args) if arg.space != "index" or arg not in args[:i]]
        place = "level" if self.loop and domain == "prefix" else domain
        printed = self.kernels.add(kernel)
        self.items.append(
            Call(printed, tuple(once_each), place, reads, tuple(writes), result, once, units, exchanges, continues)
        )

    def begin_loop(self, loop: Loop) -> list[Item]:
        """From here on calls belong to the loop; return the calls before it, for `end_loop`."""
        before, self.items, self.loop = self.items, [], loop
        return before

    def end_loop(self, before: list[Item]) -> None:
        assert self.loop is not None
        inside = tuple(item for item in self.items if isinstance(item, Call))
        self.items, self.loop = [*before, CallLoop(inside, self.loop.reverse)], None

    def clear(self, arg: Arg, value: Value) -> None:
        self.call(Zero(self.ld(value)), [arg], value.domain, [arg.name], label(value))

    # --- gradients ------------------------------------------------------------------------------------

    def sum_of(self, weight: Value) -> Arg:
        """Where a thread adds its rows' part of a gradient: the first to the gradient, others to sums of their own."""
        self.clear_gradient(weight)
        taken = sum(up(self.context.layout[w].size, 16) for w in self.context.layout if self._has_sum(w))
        self.sums.setdefault(self.storage(weight).ident, taken)
        return Arg("sum", self.storage(weight).ident)

    def _has_sum(self, weight: Value) -> bool:
        return self.storage(weight).ident in self.sums

    def clear_gradient(self, weight: Value) -> None:
        """Sums into a gradient start from zero, unless a product has written it already."""
        if weight in self.started:
            return
        self.started.add(weight)
        parameter = self.storage(weight)
        arg = Arg("gradient", parameter.ident)
        name = f"gradient {parameter.ident}"
        self.call(Zero(parameter.ld), [arg], "once", [name], name, once=parameter.rows)


def label(value: Value) -> str:
    """What the C calls a value: without the layer it belongs to."""
    return (value.label or value.op.name).split(".")[-1]
