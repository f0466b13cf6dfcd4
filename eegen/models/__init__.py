"""The models of the family: each file gives the graph of one position, up to its logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eegen.language.graph import Graph, Value
from eegen.models.bigram import bigram, count_bigrams
from eegen.models.config import ModelConfig
from eegen.models.gpt import gpt
from eegen.models.mlp import mlp
from eegen.models.rnn import rnn
from eegen.models.rnn_sparse import rnn_sparse
from eegen.run.data import Dataset

MODELS: dict[str, Callable[[Graph, ModelConfig], Value]] = {
    "gpt": gpt,
    "rnn": rnn,
    "rnn-sparse": rnn_sparse,
    "mlp": mlp,
    "bigram": bigram,
    "bigram-count": bigram,
}

# Models whose parameters are computed from the data at once, with no training.
FITS: dict[str, Callable[[Dataset], dict[str, np.ndarray]]] = {"bigram-count": count_bigrams}


def build_graph(config: ModelConfig) -> tuple[Graph, Value]:
    """The model's graph and its logits."""
    graph = Graph()
    return graph, MODELS[config.model](graph, config)
