"""Ops on whole rows: norms, lookups in tables, and the ways from one row domain to another and back."""

from __future__ import annotations

import numpy as np

from eegen.language.graph import Array, Expression, Value, define
from eegen.language.ops.shapes import like_parameter, same
from eegen.language.rows import Rows

EPS = 1e-5


def rms(rows: Rows, x: Array) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + EPS)


def rms_grad(rows: Rows, dy: Array, x: Array) -> Array:
    scale = 1 / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + EPS)
    return scale * dy - x * scale**3 * np.mean(dy * x, axis=1, keepdims=True)


define(
    "rms",
    "row",
    same,
    rms,
    lambda g, v, dy: (g.apply("rms_grad", dy, v.inputs[0]),),
    expression=Expression("mul(a, s0)", (("a", "a"),), ("rsqrt4(q0 * mean + eps)",)),
    flops=3,
    strided=True,
)
# dx = s dy - x s³ mean(dy x), s = 1 / sqrt(mean(x²) + eps)
define(
    "rms_grad",
    "row",
    same,
    rms_grad,
    expression=Expression(
        "fnma(b, s1, mul(a, s0))",
        (("b", "b"), ("a", "b")),
        ("rsqrt4(q0 * mean + eps)", "s0 * s0 * s0 * (q1 * mean)"),
    ),
    flops=6,
    strided=True,
)

# The row of a table for each row: `by` token or position.
define(
    "lookup",
    "lookup",
    lambda inputs, attrs, domain: (inputs[0].shape[1:], "pair"),
    lambda rows, table, by: table[rows.pair_token if by == "token" else rows.pair_position],
    lambda g, v, dy: (g.apply("lookup_grad", dy, like=v.inputs[0], by=v.attrs["by"]),),
    gathers=True,
    strided=True,
)


def lookup_grad(rows: Rows, dy: Array, like: Value, by: str) -> Array:
    table = np.zeros(like.shape)
    np.add.at(table, rows.pair_token if by == "token" else rows.pair_position, dy)
    return table


define("lookup_grad", "sink", like_parameter, lookup_grad, strided=True)
define("column_sum", "sink", like_parameter, lambda rows, dy, like: dy.sum(axis=0), strided=True)

# From pair rows to prefix rows, and the sum back.
define(
    "spread",
    "spread",
    lambda inputs, attrs, domain: (inputs[0].shape, "prefix"),
    lambda rows, x: x[rows.pair_of],
    lambda g, v, dy: (g.apply("collect", dy),),
    strided=True,
)


def collect(rows: Rows, dy: Array) -> Array:
    x = np.zeros((rows.pairs, dy.shape[1]))
    np.add.at(x, rows.pair_of, dy)
    return x


define("collect", "collect", lambda inputs, attrs, domain: (inputs[0].shape, "pair"), collect)


def no_meaning(rows: Rows) -> Array:
    raise AssertionError("what a loop carries is set by the loop")


# What loops carry: the state of the parent, the sum over the children.
define("previous", "previous", same, no_meaning)
define("following", "following", same, no_meaning)

define("parameter", "parameter", same, no_meaning)
