"""The oracle: any graph interpreted in float64 NumPy, one op at a time, as its meaning says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eegen.language.autodiff import backward
from eegen.language.graph import Graph, Region, Value, regions
from eegen.language.rows import Rows

Array = np.ndarray


class Oracle:
    """A model in float64: loss, gradients and logits of a batch from named parameter tensors."""

    def __init__(self, graph: Graph, logits: Value) -> None:
        self.graph = graph
        self.loss = graph.apply("cross_entropy", logits)
        self.logits = self.loss.inputs[0]  # of prefix rows
        self.gradients = backward(graph, self.loss)
        self.regions = regions(graph)

    def evaluate(self, rows: Rows, tensors: Mapping[str, Array]) -> dict[Value, Array]:
        """Every value of the graph."""
        known: dict[Value, Array] = {}
        for parameter in self.graph.parameters:
            named = [np.asarray(tensors[part.name], np.float64) for part in parameter.attrs["parts"]]
            known[parameter] = np.concatenate(named)
        for region in self.regions:
            if region.loop is not None:
                run_loop(region, rows, known)
                continue
            for value in region.values:
                if value not in known:
                    known[value] = value.op.meaning(rows, *(known[v] for v in value.inputs), **value.attrs)
        return known

    def loss_and_gradients(self, rows: Rows, tensors: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
        known = self.evaluate(rows, tensors)
        gradients = {}
        for parameter, terms in self.gradients.items():
            whole = sum((known[term] for term in terms[1:]), start=known[terms[0]])
            for part in parameter.attrs["parts"]:
                gradients[part.name] = whole[part.start : part.stop]
        return float(known[self.loss]), gradients


def run_loop(region: Region, rows: Rows, known: dict[Value, Array]) -> None:
    """The values of a loop, a level of the prefix tree after the other."""
    loop = region.loop
    assert loop is not None
    for value in region.values:
        known[value] = np.zeros((rows.prefixes, value.width))
    carried, state = known[loop.carried], known[loop.value]
    levels = rows.levels
    for level in reversed(levels) if loop.reverse else levels:
        if not loop.reverse:
            below = level[rows.parent[level] >= 0]
            carried[below] = state[rows.parent[below]]
        for value in region.values:
            if value is not loop.carried:
                operands = (known[v] if v.domain == "param" else known[v][level] for v in value.inputs)
                known[value][level] = value.op.meaning(rows, *operands, **value.attrs)
        if loop.reverse:
            below = level[rows.parent[level] >= 0]
            np.add.at(carried, rows.parent[below], state[below])
