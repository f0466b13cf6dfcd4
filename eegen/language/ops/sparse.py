"""A product with the k largest positive entries of a row alone."""

from __future__ import annotations

import numpy as np

from eegen.language.graph import Array, Value, define
from eegen.language.ops.shapes import like_parameter
from eegen.language.rows import Rows


def largest(x: Array, k: int) -> Array:
    """A mask of the k largest positive entries of each row, of equal ones the first."""
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    mask = np.zeros(x.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask & (x > 0)


def top_linear(rows: Rows, x: Array, w: Array, top_k: int) -> Array:
    return np.where(largest(x, top_k), x, 0) @ w.T


def top_linear_grad(rows: Rows, dy: Array, x: Array, w: Array, top_k: int) -> Array:
    return np.where(largest(x, top_k), dy @ w, 0)


def top_outer(rows: Rows, dy: Array, x: Array, like: Value, top_k: int) -> Array:
    return dy.T @ np.where(largest(x, top_k), x, 0)


define(
    "top_linear",
    "top_linear",
    lambda inputs, attrs, domain: ((inputs[1].shape[0],), domain),
    top_linear,
    lambda g, v, dy: (
        g.apply("top_linear_grad", dy, *v.inputs, **v.attrs),
        g.apply("top_outer", dy, v.inputs[0], like=v.inputs[1], **v.attrs),
    ),
    reads="in_out",
    products=lambda v: v.inputs[1].shape[0] * v.attrs["top_k"],
)
define(
    "top_linear_grad",
    "top_linear_grad",
    lambda inputs, attrs, domain: (inputs[1].shape, domain),
    top_linear_grad,
    reads="in_out",
)
define("top_outer", "top_outer", like_parameter, top_outer)
