"""Ops on entries."""

from __future__ import annotations

import numpy as np

from eegen.language.graph import Expression, Graph, Value, define
from eegen.language.ops.shapes import same


def elementwise(name: str, expression: str, meaning: object, derivative: object = None, flops: int = 1) -> None:
    define(name, "elementwise", same, meaning, derivative, expression=Expression(expression), flops=flops, strided=True)


elementwise("add", "add(a, b)", lambda rows, a, b: a + b, lambda g, v, dy: (dy, dy))
elementwise("sub", "sub(a, b)", lambda rows, a, b: a - b, lambda g, v, dy: (dy, g.apply("negative", dy)))
elementwise("negative", "sub(zero(), a)", lambda rows, a: -a, lambda g, v, dy: (g.apply("negative", dy),))
elementwise(
    "mul",
    "mul(a, b)",
    lambda rows, a, b: a * b,
    lambda g, v, dy: (g.apply("mul", dy, v.inputs[1]), g.apply("mul", dy, v.inputs[0])),
)


def activation(name: str, expression: str, meaning: object, slope: str, slope_meaning: object, flops: int = 1) -> None:
    """An op of one operand whose derivative is a function of its result: `slope` is dy (a) times that of the result
    (b).
    """

    def derivative(g: Graph, v: Value, dy: Value) -> tuple[Value]:
        return (g.apply(f"{name}_grad", dy, v),)

    elementwise(name, expression, meaning, derivative, flops)
    elementwise(f"{name}_grad", slope, slope_meaning)


activation("relu", "relu(a)", lambda rows, x: np.maximum(x, 0), "keep(a, b)", lambda rows, dy, y: dy * (y > 0))
# The slope of y = relu(x)² is 2 relu(x) = 2 sqrt(y).
activation(
    "relu2",
    "mul(relu(a), relu(a))",
    lambda rows, x: np.maximum(x, 0) ** 2,
    "mul(a, mul(set1(2.0f), sqrt(b)))",
    lambda rows, dy, y: dy * 2 * np.sqrt(y),
)
activation(
    "tanh",
    "tanh(a)",
    lambda rows, x: np.tanh(x),
    "mul(a, fnma(b, b, set1(1.0f)))",
    lambda rows, dy, y: dy * (1 - y * y),
)
# sigmoid x = (1 + tanh(x / 2)) / 2, which overflows nowhere
activation(
    "sigmoid",
    "fma(set1(0.5f), tanh(mul(set1(0.5f), a)), set1(0.5f))",
    lambda rows, x: 0.5 + 0.5 * np.tanh(0.5 * x),
    "mul(a, fnma(b, b, b))",
    lambda rows, dy, y: dy * (y - y * y),
)

# An operand that is a parameter: one vector for all rows.
elementwise(
    "bias",
    "add(a, b)",
    lambda rows, x, b: x + b,
    lambda g, v, dy: (dy, g.apply("column_sum", dy, like=v.inputs[1])),
)
elementwise(
    "gain",
    "mul(a, b)",
    lambda rows, x, w: x * w,
    lambda g, v, dy: (
        g.apply("gain", dy, v.inputs[1]),
        g.apply("column_sum", g.apply("mul", dy, v.inputs[0]), like=v.inputs[1]),
    ),
)
