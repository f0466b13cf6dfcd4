"""The bigram: a table of logits, a row for each token, trained by gradient steps."""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig, ModelSpec


def bigram(g: Graph, c: ModelConfig) -> Value:
    table = g.parameter("table", c.vocab_size, c.vocab_size, role="embedding")
    return g.apply("lookup", table, by="token", label="logits")


MODEL = ModelSpec("bigram", bigram)
