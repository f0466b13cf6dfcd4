"""The graph of a model: values, the ops that make them, and loops over the prefix tree, as data.

A value is one row of numbers for each row of its domain (`pair`: distinct (token, position) pairs; `prefix`: distinct
prefixes), or a parameter (`param`), or one number (`scalar`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from eegen.language.formats import F32, Format

Array = np.ndarray
Domain = Literal["param", "pair", "prefix", "scalar"]
ORDER = {"param": 0, "pair": 1, "prefix": 2}
Shape = tuple[tuple[int, ...], Domain]


class Expression(NamedTuple):
    """What an op on rows computes, in words of the vector vocabulary: operands are a, b, c in their order.

    `sums` are pairs of operands: q0, q1, ... are the sums over the row of their products. `scalars` are numbers of a
    row made of those and of `mean` (1 / width) and `eps`: s0, s1, ... `value` is an entry of the result.
    """

    value: str
    sums: tuple[tuple[str, str], ...] = ()
    scalars: tuple[str, ...] = ()


@dataclass(frozen=True)
class Op:
    """One op: shape rule, derivative rule, meaning in NumPy, and what the plan needs to know to lower it.

    `kind` names the lowering rule (plan/lowering). A meaning gets the rows of the batch and the operands as float64
    arrays [rows][width].
    """

    name: str
    kind: str
    shape: Callable[[Sequence[Value], Mapping[str, Any], Domain], Shape]
    meaning: Callable[..., Array]
    derivative: Callable[[Graph, Value, Value], tuple[Value | None, ...]] | None = None
    expression: Expression | None = None  # of ops on rows
    flops: int = 1  # of ops on rows: for each number of a row
    prefix: bool = False  # operands of pair rows are spread to prefix rows first
    strided: bool = False  # its kernels take any stride of their operands
    ancestors: bool = False  # reads its first operand at the rows of a row's ancestors
    gathers: bool = False  # reads single rows of a parameter as they are stored
    reads: Literal["", "in_out", "out_in"] = ""  # how it reads a matrix that it multiplies by
    products: Callable[[Value], int] = lambda value: 0  # multiplications by weights for each row


OPS: dict[str, Op] = {}


def define(name: str, kind: str, shape: Any, meaning: Any, derivative: Any = None, **more: Any) -> None:
    """Add an op to the language."""
    assert name not in OPS
    OPS[name] = Op(name, kind, shape, meaning, derivative, **more)


@dataclass(eq=False)
class Value:
    """The result of an op: its shape (of one row, or of a parameter), its row domain and its number format."""

    op: Op
    inputs: tuple[Value, ...]
    shape: tuple[int, ...]
    domain: Domain
    attrs: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    format: Format = F32

    @property
    def width(self) -> int:
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    def __repr__(self) -> str:
        return f"<{self.label or self.op.name} {self.domain}{list(self.shape)}>"


class Part(NamedTuple):
    """A named tensor inside a parameter that stacks several: rows [start, stop) of it."""

    name: str
    start: int
    stop: int


class Loop(NamedTuple):
    """A recurrence over the prefix tree, level by level.

    `carried` is the state of a row's parent (zero at the root) and `value` the state of the row. With `reverse` the
    levels run from the last to the first and `carried` is the sum of `value` over the row's children.
    """

    carried: Value
    value: Value
    reverse: bool = False


@dataclass
class Graph:
    """Parameters and values in the order of their making, which is a topological order but for what loops carry."""

    values: list[Value] = field(default_factory=list)
    parameters: list[Value] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    def add(self, value: Value) -> Value:
        self.values.append(value)
        return value

    def parameter(
        self, name: str, *shape: int, init: str = "normal", role: str = "matrix", parts: tuple[str, ...] = ()
    ) -> Value:
        """A trained tensor [out][in] or [n]; `parts` names equal slices of the first extent.

        `role` tells embeddings and the head from the rest, for optimizers that treat them apart.
        """
        names = parts or (name,)
        step = shape[0] // len(names)
        split = tuple(Part(part, i * step, (i + 1) * step) for i, part in enumerate(names))
        attrs = MappingProxyType({"init": init, "role": role, "parts": split})
        value = self.add(Value(OPS["parameter"], (), shape, "param", attrs, name))
        self.parameters.append(value)
        return value

    def apply(self, op: str, *inputs: Value, label: str = "", **attrs: Any) -> Value:
        """Append an op; operands of an elementwise op are brought to one row domain first, of some to prefix."""
        rule = OPS[op]
        domain: Domain = max((v.domain for v in inputs), key=lambda d: ORDER.get(d, 0), default="param")
        if rule.prefix or (rule.kind == "elementwise" and domain == "prefix"):
            inputs = tuple(self.apply("spread", v) if v.domain == "pair" else v for v in inputs)
        shape, domain = rule.shape(inputs, attrs, domain)
        return self.add(Value(rule, inputs, shape, domain, MappingProxyType(dict(attrs)), label))

    def scan(self, body: Callable[[Value], Value], width: int) -> Value:
        """A recurrence: `body` makes the state of a row, `width` numbers, from that of its parent (zero at the
        root).
        """
        carried = self.carry("previous", width)
        state = body(carried)
        assert state.shape == (width,) and state.domain == "prefix", "a scan's body returns a state of prefix rows"
        self.loops.append(Loop(carried, state))
        return state

    def carry(self, op: str, width: int) -> Value:
        """The leaf that stands for what a loop carries."""
        return self.add(Value(OPS[op], (), (width,), "prefix", label=op))

    def uses(self) -> dict[Value, list[Value]]:
        """Who reads each value; a loop's state is read by what it carries."""
        found: dict[Value, list[Value]] = {}
        for value in self.values:
            for operand in value.inputs:
                found.setdefault(operand, []).append(value)
        for loop in self.loops:
            found.setdefault(loop.value, []).append(loop.carried)
        return found


def members(graph: Graph, loop: Loop) -> list[Value]:
    """The values of a loop, in order: those that depend on what it carries and that its state depends on."""
    needed = {loop.value}
    for value in reversed(graph.values):
        if value in needed:
            needed.update(value.inputs)
    dependent = {loop.carried}
    for value in graph.values:
        if any(operand in dependent for operand in value.inputs):
            dependent.add(value)
    return [value for value in graph.values if value in needed and value in dependent]


class Region(NamedTuple):
    """Values in the order in which they are computed: one after another, or as a loop."""

    values: tuple[Value, ...]
    loop: Loop | None = None


def regions(graph: Graph, values: Sequence[Value] | None = None) -> list[Region]:
    """All values (or some) as regions in an order that can be computed: the graph's own, each loop in one piece."""
    chosen = list(graph.values if values is None else values)
    loop_of: dict[Value, Region] = {}
    for loop in graph.loops:
        region = Region(tuple(members(graph, loop)), loop)
        loop_of.update(dict.fromkeys(region.values, region))
    waiting = list(dict.fromkeys(loop_of.get(value, Region((value,))) for value in chosen))
    done = set(graph.values) - set(chosen)
    found: list[Region] = []
    while waiting:
        left = []
        for region in waiting:
            if any(x not in done and x not in region.values for value in region.values for x in value.inputs):
                left.append(region)
                continue
            done.update(region.values)
            if found and region.loop is None and found[-1].loop is None:
                found[-1] = Region((*found[-1].values, *region.values))
            else:
                found.append(region)
        waiting = left
    return found
