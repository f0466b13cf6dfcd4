"""The models of the family: each file gives the graph of one position, up to its logits."""

from __future__ import annotations

from collections.abc import Callable

from eegen.config import ModelConfig
from eegen.graph import Graph, Value
from eegen.models.gpt import gpt

MODELS: dict[str, Callable[[Graph, ModelConfig], Value]] = {"gpt": gpt}


def build_graph(config: ModelConfig) -> tuple[Graph, Value]:
    """The model's graph and its logits."""
    graph = Graph()
    return graph, MODELS[config.model](graph, config)
