"""A model in PyTorch, run eagerly: one call of PyTorch an op, autograd, its Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from eegen.language.graph import Region, Value, regions
from eegen.language.ops.row import EPS
from eegen.language.optimizers import How
from eegen.measure.peers import IGNORED, OPERATORS, missing, padded
from eegen.models import build_graph
from eegen.models.config import ModelConfig
from eegen.run.data import Dataset
from eegen.train.options import TrainOptions

Tensor = Any


def rms(tokens: Tensor, x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], eps=EPS)


def lookup(tokens: Tensor, table: Tensor, by: str) -> Tensor:
    return functional.embedding(tokens, table) if by == "token" else table[: tokens.shape[1]]


def attention(tokens: Tensor, qkv: Tensor, heads: int) -> Tensor:
    n, t, width = qkv.shape
    q, k, v = qkv.view(n, t, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out.transpose(1, 2).reshape(n, t, width // 3)


def context(tokens: Tensor, table: Tensor, length: int) -> Tensor:
    before = functional.pad(tokens, (length - 1, 0), value=len(table) - 1)
    return functional.embedding(before.unfold(1, length, 1), table).flatten(2)


def top_linear(tokens: Tensor, x: Tensor, w: Tensor, top_k: int) -> Tensor:
    largest, at = x.topk(top_k)
    return functional.linear(torch.zeros_like(x).scatter(-1, at, largest.relu()), w)


# What each op of a graph is here: the tokens [documents][positions] and its operands, [documents][positions][width].
OPS: dict[str, Callable[..., Tensor]] = {
    **OPERATORS,
    "sigmoid": lambda tokens, x: torch.sigmoid(x),
    "relu": lambda tokens, x: torch.relu(x),
    "relu2": lambda tokens, x: torch.relu(x).square(),
    "tanh": lambda tokens, x: torch.tanh(x),
    "linear": lambda tokens, x, w: functional.linear(x, w),
    "rms": rms,
    "lookup": lookup,
    "attention": attention,
    "context": context,
    "top_linear": top_linear,
}


def apply(value: Value, tokens: Tensor, known: Mapping[Value, Tensor]) -> Tensor:
    return OPS[value.op.name](tokens, *(known[v] for v in value.inputs), **value.attrs)


def run_loop(region: Region, tokens: Tensor, known: dict[Value, Tensor]) -> None:
    """The state of a loop, a position after the other."""
    assert region.loop is not None
    outside = [v for value in region.values for v in value.inputs if v not in region.values]
    rows = {v: known[v].expand(*tokens.shape, v.width) for v in outside if v.domain != "param"}
    h, states = torch.zeros(len(tokens), region.loop.carried.width), []
    for t in range(tokens.shape[1]):
        now = {**known, **{v: each[:, t] for v, each in rows.items()}, region.loop.carried: h}
        for value in region.values[1:]:
            now[value] = apply(value, tokens, now)
        h = now[region.loop.value]
        states.append(h)
    known[region.loop.value] = torch.stack(states, 1)


class Peer:
    """Eager training steps of one model."""

    unit = 1

    def __init__(
        self,
        config: ModelConfig,
        data: Dataset,
        options: TrainOptions,
        weights: dict[str, NDArray[np.float32]],
        batches: Iterator[list[int]],
    ) -> None:
        torch.set_num_threads(options.threads)
        graph, self.logits = build_graph(config)
        self.values, self.regions = graph.values, regions(graph)
        for value in self.values:
            if value.op.name not in (*OPS, "parameter", "previous"):
                raise missing("torch", value.op.name)
        self.parameters: dict[Value, Tensor] = {
            p: torch.tensor(np.concatenate([weights[part.name] for part in p.attrs["parts"]]), requires_grad=True)
            for p in graph.parameters
        }
        betas = (options.beta1, options.beta2)
        self.adam = torch.optim.Adam(self.parameters.values(), options.lr, betas, How.eps, fused=True)
        self.tokens, self.targets = (torch.from_numpy(x) for x in padded(data))
        self.lengths = np.diff(data.starts)
        self.batches = batches

    def run(self, units: int) -> list[float]:
        losses = []
        for documents in islice(self.batches, units):
            longest = int(self.lengths[documents].max())
            tokens, targets = self.tokens[documents, :longest], self.targets[documents, :longest]
            loss = self.loss(tokens, targets)
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
            losses.append(loss.detach())
        return list(torch.stack(losses).tolist())

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        known = dict(self.parameters)
        for region in self.regions:
            if region.loop is not None:
                run_loop(region, tokens, known)
                continue
            for value in region.values:
                if value not in known:
                    known[value] = apply(value, tokens, known)
        logits = known[self.logits]
        logits = logits.expand(*tokens.shape, logits.shape[-1]).flatten(0, 1)
        return functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED)
