"""Products with a matrix: y = x Wᵀ, weights [out][in]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eegen.language.graph import Domain, Shape, Value, define
from eegen.language.ops.shapes import like_parameter


def linear_shape(inputs: Sequence[Value], attrs: Mapping[str, Any], domain: Domain) -> Shape:
    parts = len(inputs[1].attrs["parts"])
    out = inputs[1].shape[0]
    return ((out,) if parts == 1 else (parts, out // parts)), domain


define(
    "linear",
    "product",
    linear_shape,
    lambda rows, x, w: x @ w.T,
    lambda g, v, dy: (
        g.apply("linear_back", dy, v.inputs[1]),
        g.apply("outer", dy, v.inputs[0], like=v.inputs[1]),
    ),
    reads="in_out",
    strided=True,
    products=lambda v: v.inputs[1].width,
)
define(
    "linear_back",
    "product",
    lambda inputs, attrs, domain: (inputs[1].shape[1:], domain),
    lambda rows, dy, w: dy @ w,
    reads="out_in",
    strided=True,
)
define("outer", "outer", like_parameter, lambda rows, dy, x, like: dy.T @ x, strided=True)
