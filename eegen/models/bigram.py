"""The bigram: a table of logits, a row for each token. Trained by steps, or filled from counts."""

from __future__ import annotations

import numpy as np

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig
from eegen.run.data import Dataset


def bigram(g: Graph, c: ModelConfig) -> Value:
    table = g.parameter("table", c.vocab_size, c.vocab_size, role="embedding")
    return g.apply("lookup", table, by="token", label="logits")


def count_bigrams(data: Dataset) -> dict[str, np.ndarray]:
    """The table whose softmax is the share of each pair among the data's, one added to every count."""
    counts = np.ones((data.vocab_size, data.vocab_size))
    np.add.at(counts, (data.token, data.target), 1)
    return {"table": np.log(counts / counts.sum(axis=1, keepdims=True))}
