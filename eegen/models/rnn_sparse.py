"""The sparse RNN: the state is kept, and its k largest entries alone pass through M: k rows of it a step."""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig
from eegen.models.rnn import parts


def rnn_sparse(g: Graph, c: ModelConfig) -> Value:
    u, m, lm_head = parts(g, c)
    h = g.apply("sparse_recurrence", u, m, top_k=c.top_k, label="h")
    return g.apply("linear", h, lm_head, label="logits")
