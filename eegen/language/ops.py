"""Every op once: its shape rule, its derivative rule, and what it means in NumPy.

`kind` says how the plan lowers it: `elementwise` and `row` ops become lines of a row program,
`product` and `outer` the two matrix kernels, the rest a kernel of their own (templates/kernels).
A meaning gets the batch's rows (reference.Rows) and its operands as float64 arrays [rows][width].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegen.language.graph import Graph, Value

if TYPE_CHECKING:
    from eegen.language.oracle import Rows

Array = np.ndarray
Shape = tuple[tuple[int, ...], str]
EPS = 1e-5


@dataclass(frozen=True)
class Op:
    name: str
    kind: str
    shape: Callable[[Sequence[Value], dict[str, Any], str], Shape]
    meaning: Callable[..., Array]
    derivative: Callable[[Graph, Value, Value], tuple[Value | None, ...]] | None = None
    prefix: bool = False  # works on prefix rows only: operands of pair rows are spread to them
    weight: str = ""  # multiplies by its second operand: `both` copies of it are wanted, or only the `in_out` one


OPS: dict[str, Op] = {}


def define(name: str, kind: str, shape: Any, meaning: Any, derivative: Any = None, **more: Any) -> None:
    OPS[name] = Op(name, kind, shape, meaning, derivative, **more)


def same(inputs: Sequence[Value], attrs: dict[str, Any], domain: str) -> Shape:
    rows = [v for v in inputs if v.domain != "param"]
    return rows[0].shape, domain


def like_parameter(inputs: Sequence[Value], attrs: dict[str, Any], domain: str) -> Shape:
    return attrs["like"].shape, "param"


# --- elementwise -----------------------------------------------------------------------------

define("add", "elementwise", same, lambda rows, a, b: a + b, lambda g, v, dy: (dy, dy))
define(
    "mul",
    "elementwise",
    same,
    lambda rows, a, b: a * b,
    lambda g, v, dy: (g.apply("mul", dy, v.inputs[1]), g.apply("mul", dy, v.inputs[0])),
)
define(
    "relu",
    "elementwise",
    same,
    lambda rows, x: np.maximum(x, 0),
    lambda g, v, dy: (g.apply("relu_grad", dy, v),),
)
define("relu_grad", "elementwise", same, lambda rows, dy, y: dy * (y > 0))
define(
    "relu2",
    "elementwise",
    same,
    lambda rows, x: np.maximum(x, 0) ** 2,
    lambda g, v, dy: (g.apply("relu2_grad", dy, v),),
)
# relu2' in terms of the result y = relu(x)²: 2 relu(x) = 2 sqrt(y)
define("relu2_grad", "elementwise", same, lambda rows, dy, y: dy * 2 * np.sqrt(y))
define(
    "tanh",
    "elementwise",
    same,
    lambda rows, x: np.tanh(x),
    lambda g, v, dy: (g.apply("tanh_grad", dy, v),),
)
define("tanh_grad", "elementwise", same, lambda rows, dy, y: dy * (1 - y * y))
define(
    "bias",
    "elementwise",
    same,
    lambda rows, x, b: x + b,
    lambda g, v, dy: (dy, g.apply("column_sum", dy, like=v.inputs[1])),
)
define(
    "gain",
    "elementwise",
    same,
    lambda rows, x, w: x * w,
    lambda g, v, dy: (
        g.apply("gain", dy, v.inputs[1]),
        g.apply("column_sum", g.apply("mul", dy, v.inputs[0]), like=v.inputs[1]),
    ),
)

# --- rows ------------------------------------------------------------------------------------


def rms(rows: Rows, x: Array) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + EPS)


def rms_grad(rows: Rows, dy: Array, x: Array) -> Array:
    scale = 1 / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + EPS)
    return scale * dy - x * scale**3 * np.mean(dy * x, axis=1, keepdims=True)


define("rms", "row", same, rms, lambda g, v, dy: (g.apply("rms_grad", dy, v.inputs[0]),))
define("rms_grad", "row", same, rms_grad)

# A table's row for each row: `by` token or position.
define(
    "lookup",
    "row",
    lambda inputs, attrs, domain: (inputs[0].shape[1:], "pair"),
    lambda rows, table, by: table[rows.pair_token if by == "token" else rows.pair_position],
    lambda g, v, dy: (g.apply("lookup_grad", dy, like=v.inputs[0], by=v.attrs["by"]),),
)


def lookup_grad(rows: Rows, dy: Array, like: Value, by: str) -> Array:
    table = np.zeros(like.shape)
    np.add.at(table, rows.pair_token if by == "token" else rows.pair_position, dy)
    return table


define("lookup_grad", "sink", like_parameter, lookup_grad)
define("column_sum", "sink", like_parameter, lambda rows, dy, like: dy.sum(axis=0))

# From pair rows to prefix rows, and the sum back.
define(
    "spread",
    "row",
    lambda inputs, attrs, domain: (inputs[0].shape, "prefix"),
    lambda rows, x: x[rows.pair_of],
    lambda g, v, dy: (g.apply("collect", dy),),
)


def collect(rows: Rows, dy: Array) -> Array:
    x = np.zeros((rows.pairs, dy.shape[1]))
    np.add.at(x, rows.pair_of, dy)
    return x


define("collect", "collect", lambda inputs, attrs, domain: (inputs[0].shape, "pair"), collect)

# --- matrices: y = x Wᵀ, weights [out][in] -------------------------------------------------------


def linear_shape(inputs: Sequence[Value], attrs: dict[str, Any], domain: str) -> Shape:
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
    weight="both",
)
define(
    "linear_back",
    "product",
    lambda inputs, attrs, domain: (inputs[1].shape[1:], domain),
    lambda rows, dy, w: dy @ w,
)
define("outer", "outer", like_parameter, lambda rows, dy, x, like: dy.T @ x)

# --- attention: q, k, v stacked in one value -------------------------------------------------------


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
)
define(
    "attention_grad",
    "attention_grad",
    lambda inputs, attrs, domain: (inputs[1].shape, inputs[1].domain),
    attention_grad,
)

# --- a fixed context: the table's rows of a prefix's last `length` tokens, side by side, the oldest first --------


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

# --- recurrence over the prefix tree: h = relu(carry of the parent's h + u), nothing to the root -------------------


def top(h: Array, k: int) -> Array:
    """Indices of the k largest entries, of equal ones the first."""
    return np.argsort(-h, kind="stable")[:k]


def unroll(rows: Rows, u: Array, carry: Callable[[Array], Array]) -> Array:
    h = np.zeros_like(u)
    for r, parent in enumerate(rows.parent):
        h[r] = np.maximum(u[r] + (carry(h[parent]) if parent >= 0 else 0), 0)
    return h


def unroll_back(rows: Rows, dy: Array, h: Array, back: Callable[[Array, Array], Array]) -> Array:
    """The gradient of h's argument: children before parents, each adding to its parent's sum."""
    dz, sums = np.zeros_like(dy), np.zeros_like(dy)
    for r in reversed(range(len(dy))):
        dz[r] = (dy[r] + back(sums[r], h[r])) * (h[r] > 0)
        if rows.parent[r] >= 0:
            sums[rows.parent[r]] += dz[r]
    return dz


def children(rows: Rows, dz: Array) -> Array:
    sums = np.zeros_like(dz)
    below = rows.parent >= 0
    np.add.at(sums, rows.parent[below], dz[below])
    return sums


define(
    "recurrence",
    "recurrence",
    lambda inputs, attrs, domain: (inputs[0].shape, "prefix"),
    lambda rows, u, m: unroll(rows, u, lambda h: m @ h),
    lambda g, v, dy: recurrence_rule(g, v, g.apply("recurrence_grad", dy, v, v.inputs[1]), "outer"),
    prefix=True,
    weight="both",
)
define(
    "recurrence_grad",
    "recurrence_grad",
    lambda inputs, attrs, domain: (inputs[1].shape, "prefix"),
    lambda rows, dy, h, m: unroll_back(rows, dy, h, lambda s, h: s @ m),
)
# The sum over each row's children, which the gradient of a recurrence leaves behind.
define("children", "children", lambda inputs, attrs, domain: (inputs[0].shape, "prefix"), children)


def recurrence_rule(g: Graph, v: Value, dz: Value, outer: str, **attrs: Any) -> tuple[Value, Value]:
    return dz, g.apply(outer, g.apply("children", dz), v, like=v.inputs[1], **attrs)


# The same where h carries itself and, through the weights, only its top_k largest entries.


def sparse_carry(h: Array, m: Array, k: int) -> Array:
    chosen = top(h, k)
    return h + m[:, chosen] @ h[chosen]


def sparse_back(s: Array, h: Array, m: Array, k: int) -> Array:
    chosen, back = top(h, k), s.copy()
    back[chosen] += s @ m[:, chosen]
    return back


def sparse_outer(rows: Rows, s: Array, h: Array, like: Value, top_k: int) -> Array:
    gradient = np.zeros(like.shape)
    for row, state in zip(s, h, strict=True):
        chosen = top(state, top_k)
        gradient[:, chosen] += np.outer(row, state[chosen])
    return gradient


define(
    "sparse_recurrence",
    "sparse_recurrence",
    lambda inputs, attrs, domain: (inputs[0].shape, "prefix"),
    lambda rows, u, m, top_k: unroll(rows, u, lambda h: sparse_carry(h, m, top_k)),
    lambda g, v, dy: recurrence_rule(
        g, v, g.apply("sparse_recurrence_grad", dy, v, v.inputs[1], **v.attrs), "sparse_outer", **v.attrs
    ),
    prefix=True,
    weight="in_out",
)
define(
    "sparse_recurrence_grad",
    "sparse_recurrence_grad",
    lambda inputs, attrs, domain: (inputs[1].shape, "prefix"),
    lambda rows, dy, h, m, top_k: unroll_back(rows, dy, h, lambda s, h: sparse_back(s, h, m, top_k)),
)
define("sparse_outer", "sparse_outer", like_parameter, sparse_outer)

# --- the loss: mean over positions of -log softmax(logits)[target] ---------------------------------


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
define(
    "cross_entropy_grad",
    "loss_grad",
    lambda inputs, attrs, domain: (inputs[1].shape, inputs[1].domain),
    cross_entropy_grad,
)
define("one", "constant", lambda inputs, attrs, domain: ((), "scalar"), lambda rows: np.array(1.0))
