"""The sparse RNN: the state is kept, and its k largest entries alone pass through M: k rows of it a step."""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig
from eegen.models.rnn import parts


def rnn_sparse(g: Graph, c: ModelConfig) -> Value:
    u, m, lm_head = parts(g, c)

    def step(h: Value) -> Value:
        passed = g.apply("top_linear", h, m, top_k=c.top_k)
        return g.apply("relu", g.apply("add", g.apply("add", h, passed), u), label="h")

    return g.apply("linear", g.scan(step, c.d_state), lm_head, label="logits")
