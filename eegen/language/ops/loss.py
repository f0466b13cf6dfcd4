"""The loss: the mean over positions of -log softmax(logits)[target]."""

from __future__ import annotations

import numpy as np

from eegen.language.graph import Array, define
from eegen.language.ops.shapes import like_second
from eegen.language.rows import Rows


def log_softmax(x: Array) -> Array:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def cross_entropy(rows: Rows, logits: Array) -> Array:
    return np.array(-log_softmax(logits)[rows.position_row, rows.target].mean())


def cross_entropy_grad(rows: Rows, dy: Array, logits: Array) -> Array:
    counts = np.zeros_like(logits)
    np.add.at(counts, (rows.position_row, rows.target), 1)
    return dy * (np.exp(log_softmax(logits)) * counts.sum(axis=1, keepdims=True) - counts) / len(rows.target)


define(
    "cross_entropy",
    "loss",
    lambda inputs, attrs, domain: ((), "scalar"),
    cross_entropy,
    lambda g, v, dy: (g.apply("cross_entropy_grad", dy, v.inputs[0]),),
    prefix=True,
)
define("cross_entropy_grad", "loss_grad", like_second, cross_entropy_grad)
define("one", "constant", lambda inputs, attrs, domain: ((), "scalar"), lambda rows: np.array(1.0))
