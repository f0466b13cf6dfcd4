"""A fixed context: the table's rows of a prefix's last `length` tokens, side by side, the oldest first."""

from __future__ import annotations

import numpy as np

from eegen.language.graph import Array, Value, define
from eegen.language.ops.shapes import like_parameter
from eegen.language.rows import Rows


def context_tokens(rows: Rows, length: int, boundary: int) -> Array:
    """[prefixes][length] tokens; what lies before the first one is the boundary."""
    at, columns = np.arange(rows.prefixes), []
    for _ in range(length):
        columns.append(np.where(at >= 0, rows.token[at], boundary))
        at = np.where(at >= 0, rows.parent[at], -1)
    return np.stack(columns[::-1], axis=1)


def context(rows: Rows, table: Array, length: int) -> Array:
    return table[context_tokens(rows, length, len(table) - 1)].reshape(rows.prefixes, -1)


def context_grad(rows: Rows, dy: Array, like: Value, length: int) -> Array:
    table = np.zeros(like.shape)
    np.add.at(table, context_tokens(rows, length, len(table) - 1), dy.reshape(rows.prefixes, length, -1))
    return table


define(
    "context",
    "context",
    lambda inputs, attrs, domain: ((attrs["length"] * inputs[0].shape[1],), "prefix"),
    context,
    lambda g, v, dy: (g.apply("context_grad", dy, like=v.inputs[0], length=v.attrs["length"]),),
)
define("context_grad", "context_grad", like_parameter, context_grad)
