"""Causal attention of every prefix over its ancestors: q, k and v are stacked in one value."""

from __future__ import annotations

from typing import Any

import numpy as np

from eegen.language.graph import Array, define
from eegen.language.ops.shapes import like_second
from eegen.language.rows import Rows


def attention_parts(rows: Rows, qkv: Array, heads: int) -> Any:
    """Per prefix row: its kv rows, q [h][d], k and v [j][h][d], probabilities [h][j]."""
    qkv = qkv.reshape(len(qkv), 3, heads, -1)
    for r, chain in enumerate(rows.chains(len(qkv))):
        q, k, v = qkv[chain[-1], 0], qkv[chain, 1], qkv[chain, 2]
        score = np.einsum("hd,jhd->hj", q, k) / np.sqrt(q.shape[-1])
        p = np.exp(score - score.max(axis=1, keepdims=True))
        yield r, chain, q, k, v, p / p.sum(axis=1, keepdims=True)


def attention(rows: Rows, qkv: Array, heads: int) -> Array:
    out = np.empty((rows.prefixes, qkv.shape[1] // 3))
    for r, _, _, _, v, p in attention_parts(rows, qkv, heads):
        out[r] = np.einsum("hj,jhd->hd", p, v).ravel()
    return out


def attention_grad(rows: Rows, dy: Array, qkv: Array, out: Array, heads: int) -> Array:
    grad = np.zeros((len(qkv), 3, heads, qkv.shape[1] // 3 // heads))
    for r, chain, q, k, v, p in attention_parts(rows, qkv, heads):
        da = dy[r].reshape(heads, -1)
        dp = np.einsum("hd,jhd->hj", da, v)
        ds = p * (dp - (p * dp).sum(axis=1, keepdims=True)) / np.sqrt(q.shape[-1])
        np.add.at(grad[:, 0], chain[-1], np.einsum("hj,jhd->hd", ds, k))
        np.add.at(grad[:, 1], chain, np.einsum("hj,hd->jhd", ds, q))
        np.add.at(grad[:, 2], chain, np.einsum("hj,hd->jhd", p, da))
    return grad.reshape(qkv.shape)


define(
    "attention",
    "attention",
    lambda inputs, attrs, domain: ((inputs[0].shape[1],), "prefix"),
    attention,
    lambda g, v, dy: (g.apply("attention_grad", dy, v.inputs[0], v, heads=v.attrs["heads"]),),
    ancestors=True,
)
define("attention_grad", "attention_grad", like_second, attention_grad, ancestors=True)
