"""A model in JAX in its fastest form: training steps, batches and Adam included, in one jitted `lax.scan`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("NPROC", "1")  # threads of its pool

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.language.graph import Region, Value, regions
from eegen.language.ops.row import EPS
from eegen.language.optimizers import How
from eegen.measure.peers import IGNORED, OPERATORS, missing, padded
from eegen.models import build_graph
from eegen.models.config import ModelConfig
from eegen.run.data import Dataset
from eegen.train.options import TrainOptions

Tensor = Any
STEPS = 32  # of one scan: what calling it costs is spread over them


def rms(tokens: Tensor, x: Tensor) -> Tensor:
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS)


def lookup(tokens: Tensor, table: Tensor, by: str) -> Tensor:
    return table[tokens] if by == "token" else table[: tokens.shape[1]]


def attention(tokens: Tensor, qkv: Tensor, heads: int) -> Tensor:
    n, t, width = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(n, t, 3, heads, width // 3 // heads), 2, 0)
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) * q.shape[-1] ** -0.5
    scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -jnp.inf)
    return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v).reshape(n, t, width // 3)


def context(tokens: Tensor, table: Tensor, length: int) -> Tensor:
    before = jnp.pad(tokens, ((0, 0), (length - 1, 0)), constant_values=len(table) - 1)
    window = jnp.stack([before[:, i : i + tokens.shape[1]] for i in range(length)], -1)
    return table[window].reshape(*tokens.shape, -1)


def top_linear(tokens: Tensor, x: Tensor, w: Tensor, top_k: int) -> Tensor:
    largest, at = lax.top_k(x, top_k)
    return jnp.put_along_axis(jnp.zeros_like(x), at, jax.nn.relu(largest), -1, inplace=False) @ w.T


# What each op of a graph is here: the tokens [documents][positions] and its operands, [documents][positions][width].
OPS: dict[str, Callable[..., Tensor]] = {
    **OPERATORS,
    "sigmoid": lambda tokens, x: jax.nn.sigmoid(x),
    "relu": lambda tokens, x: jax.nn.relu(x),
    "relu2": lambda tokens, x: jnp.square(jax.nn.relu(x)),
    "tanh": lambda tokens, x: jnp.tanh(x),
    "linear": lambda tokens, x, w: x @ w.T,
    "rms": rms,
    "lookup": lookup,
    "attention": attention,
    "context": context,
    "top_linear": top_linear,
}


def apply(value: Value, tokens: Tensor, known: Mapping[Value, Tensor]) -> Tensor:
    return OPS[value.op.name](tokens, *(known[v] for v in value.inputs), **value.attrs)


def run_loop(region: Region, tokens: Tensor, known: dict[Value, Tensor]) -> None:
    """The state of a loop, by a scan over the positions."""
    loop = region.loop
    assert loop is not None
    read = [v for value in region.values for v in value.inputs if v not in region.values and v.domain != "param"]
    outside = list(dict.fromkeys(read))

    def step(h: Tensor, now: list[Tensor]) -> tuple[Tensor, Tensor]:
        inside = {**known, **dict(zip(outside, now)), loop.carried: h}
        for value in region.values[1:]:
            inside[value] = apply(value, tokens, inside)
        return inside[loop.value], inside[loop.value]

    start = jnp.zeros((len(tokens), loop.carried.width))
    inputs = [jnp.swapaxes(jnp.broadcast_to(known[v], (*tokens.shape, v.width)), 0, 1) for v in outside]
    known[loop.value] = jnp.swapaxes(lax.scan(step, start, inputs)[1], 0, 1)


class Peer:
    """Jitted training loops of `STEPS` steps of one model."""

    unit = STEPS

    def __init__(
        self,
        config: ModelConfig,
        data: Dataset,
        options: TrainOptions,
        weights: dict[str, NDArray[np.float32]],
        batches: Iterator[list[int]],
    ) -> None:
        if options.threads > 1:
            raise EegenError("`against` jax is measured on one thread: leave `threads` out")
        self.graph, self.logits = build_graph(config)
        for value in self.graph.values:
            if value.op.name not in (*OPS, "parameter", "previous"):
                raise missing("jax", value.op.name)
        start = [
            jnp.array(np.concatenate([weights[part.name] for part in p.attrs["parts"]])) for p in self.graph.parameters
        ]
        zeros = [jnp.zeros_like(p) for p in start]
        self.state: Any = (start, zeros, [jnp.zeros_like(p) for p in start], jnp.zeros(()))
        tokens, targets = padded(data)
        self.tokens, self.targets = jnp.array(tokens, jnp.int32), jnp.array(targets, jnp.int32)
        self.batches = batches
        self.loop = jax.jit(partial(self.train, options), donate_argnums=0)

    def run(self, units: int) -> list[float]:
        found: list[float] = []
        for _ in range(units):
            documents = np.array(list(islice(self.batches, STEPS)), np.int32)
            self.state, losses = self.loop(self.state, self.tokens, self.targets, documents)
            found += np.asarray(losses).tolist()
        return found

    def train(self, options: TrainOptions, state: Any, tokens: Tensor, targets: Tensor, documents: Tensor) -> Any:
        lr, beta1, beta2, eps = options.lr, options.beta1, options.beta2, How.eps

        def step(state: Any, chosen: Tensor) -> Any:
            w, m, v, t = state
            loss, g = jax.value_and_grad(self.loss)(w, tokens[chosen], targets[chosen])
            t = t + 1
            m = [beta1 * a + (1 - beta1) * b for a, b in zip(m, g)]
            v = [beta2 * a + (1 - beta2) * b * b for a, b in zip(v, g)]
            one, two = 1 - beta1**t, 1 - beta2**t
            w = [a - lr * (b / one) / (jnp.sqrt(c / two) + eps) for a, b, c in zip(w, m, v)]
            return (w, m, v, t), loss

        return lax.scan(step, state, documents)

    def loss(self, weights: list[Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        known = dict(zip(self.graph.parameters, weights))
        for region in regions(self.graph):
            if region.loop is not None:
                run_loop(region, tokens, known)
                continue
            for value in region.values:
                if value not in known:
                    known[value] = apply(value, tokens, known)
        logits = known[self.logits]
        logits = jnp.broadcast_to(logits, (*tokens.shape, logits.shape[-1]))
        inside = targets != IGNORED
        right = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(inside, targets, 0)[..., None], -1)[..., 0]
        return -jnp.sum(jnp.where(inside, right, 0)) / jnp.sum(inside)
