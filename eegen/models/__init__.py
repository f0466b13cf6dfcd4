"""The models: a file each, with the graph of one position up to its logits and the option table.

In: the values of a model's options. Out: a `Graph` and its logits.
"""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig, find_models

MODELS = find_models()

# Models whose parameters are computed from the data at once, without training.
FITS = {name: spec.fit for name, spec in MODELS.items() if spec.fit}


def build_graph(config: ModelConfig) -> tuple[Graph, Value]:
    """The model's graph and its logits."""
    graph = Graph()
    return graph, config.spec.build(graph, config)


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The named tensors of a model in the order in which they are drawn."""
    graph, _ = build_graph(config)
    parts = ((p, part) for p in graph.parameters for part in p.attrs["parts"])
    return {part.name: (part.stop - part.start, *p.shape[1:]) for p, part in parts}
