"""The graph of a model: values and the ops that make them, as data.

A value is one row of numbers per row of its domain (`pair`: distinct (token, position) pairs of the
batch; `prefix`: distinct prefixes), or a parameter (`param`), or the loss (`scalar`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

ORDER = {"param": 0, "pair": 1, "prefix": 2}


@dataclass(eq=False)
class Value:
    """What one op gives: its shape (of one row, or of a parameter) and its row domain."""

    op: str
    inputs: tuple[Value, ...]
    shape: tuple[int, ...]
    domain: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def width(self) -> int:
        size = 1
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True)
class Part:
    """A named tensor inside a parameter that stacks several: rows [start, stop) of it."""

    name: str
    start: int
    stop: int


@dataclass
class Graph:
    """Parameters and values in the order of their making, which is a topological order."""

    values: list[Value] = field(default_factory=list)
    parameters: list[Value] = field(default_factory=list)

    def add(self, value: Value) -> Value:
        self.values.append(value)
        return value

    def parameter(
        self, name: str, *shape: int, init: str = "normal", role: str = "hidden", parts: tuple[str, ...] = ()
    ) -> Value:
        """A trained tensor [out][in] or [n]; `parts` names equal slices of the first extent.

        `role` tells embeddings and the head from the rest, for optimizers that treat them apart.
        """
        names = parts or (name,)
        step = shape[0] // len(names)
        split = tuple(Part(part, i * step, (i + 1) * step) for i, part in enumerate(names))
        attrs = MappingProxyType({"init": init, "role": role, "parts": split})
        value = self.add(Value("parameter", (), shape, "param", attrs, name))
        self.parameters.append(value)
        return value

    def apply(self, op: str, *inputs: Value, label: str = "", **attrs: Any) -> Value:
        """Append an op; operands of an elementwise op are brought to one row domain first, of some to prefix."""
        from eegen.language.ops import OPS

        rule = OPS[op]
        domain = max((v.domain for v in inputs), key=lambda d: ORDER.get(d, 0), default="param")
        if rule.prefix or (rule.kind == "elementwise" and domain == "prefix"):
            inputs = tuple(self.apply("spread", v) if v.domain == "pair" else v for v in inputs)
        shape, domain = rule.shape(inputs, attrs, domain)
        return self.add(Value(op, inputs, shape, domain, MappingProxyType(dict(attrs)), label))
