"""The oracle: any graph interpreted in float64 NumPy, one op at a time, as its meaning says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eegen.language.autodiff import backward
from eegen.language.graph import Value
from eegen.language.ops import OPS
from eegen.models import build_graph
from eegen.models.config import ModelConfig

Array = np.ndarray


@dataclass(frozen=True)
class Rows:
    """The rows of one batch, with sharing or without: what the generated `batch` function finds."""

    pair_token: Array
    pair_position: Array
    pair_of: Array  # prefix row -> pair row
    parent: Array  # prefix row -> prefix row, -1 at the root
    position_row: Array  # position of the batch -> prefix row
    target: Array  # position of the batch -> next token

    @property
    def pairs(self) -> int:
        return len(self.pair_token)

    @property
    def prefixes(self) -> int:
        return len(self.pair_of)

    @property
    def token(self) -> Array:
        return self.pair_token[self.pair_of]

    def ancestors(self, row: int) -> list[int]:
        chain = []
        while row >= 0:
            chain.append(row)
            row = int(self.parent[row])
        return chain[::-1]

    def chains(self, kv_rows: int) -> Iterator[Array]:
        """For each prefix row the kv rows it attends to, itself last; pair rows where kv has those."""
        shared = kv_rows == self.pairs and kv_rows != self.prefixes
        for row in range(self.prefixes):
            chain = np.array(self.ancestors(row))
            yield self.pair_of[chain] if shared else chain


def batch_rows(documents: Sequence[Sequence[int]], boundary: int, block_size: int, sharing: bool = True) -> Rows:
    """The rows of a batch of documents given as token ids."""
    pairs: dict[object, int] = {}
    prefixes: dict[object, int] = {}
    pair_token, pair_position, pair_of, parent, position_row, target = [], [], [], [], [], []
    for number, document in enumerate(documents):
        tokens = [boundary, *document, boundary]
        above = -1
        for t in range(min(len(tokens) - 1, block_size)):
            own = () if sharing else (number,)
            pair = (*own, tokens[t], t)
            if pair not in pairs:
                pairs[pair] = len(pairs)
                pair_token.append(tokens[t])
                pair_position.append(t)
            prefix = (*own, tuple(tokens[: t + 1]))
            if prefix not in prefixes:
                prefixes[prefix] = len(prefixes)
                pair_of.append(pairs[pair])
                parent.append(above)
            above = prefixes[prefix]
            position_row.append(above)
            target.append(tokens[t + 1])
    return Rows(*(np.array(x, dtype=int) for x in (pair_token, pair_position, pair_of, parent, position_row, target)))


class Oracle:
    """A model in float64: loss, gradients and logits of a batch from named parameter tensors."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.graph, logits = build_graph(config)
        self.loss = self.graph.apply("cross_entropy", logits)
        self.logits = self.loss.inputs[0]  # of prefix rows
        self.gradients = backward(self.graph, self.loss)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The named tensors in the order in which they are drawn."""
        stacked = ((p, part) for p in self.graph.parameters for part in p.attrs["parts"])
        return {part.name: (part.stop - part.start, *p.shape[1:]) for p, part in stacked}

    def evaluate(self, rows: Rows, tensors: Mapping[str, Array]) -> dict[Value, Array]:
        known: dict[Value, Array] = {}
        for value in self.graph.values:
            if value.op == "parameter":
                known[value] = np.concatenate([np.asarray(tensors[p.name], np.float64) for p in value.attrs["parts"]])
            else:
                known[value] = OPS[value.op].meaning(rows, *(known[v] for v in value.inputs), **value.attrs)
        return known

    def loss_and_gradients(self, rows: Rows, tensors: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
        known = self.evaluate(rows, tensors)
        gradients = {}
        for parameter, terms in self.gradients.items():
            whole = sum((known[term] for term in terms[1:]), start=known[terms[0]])
            for part in parameter.attrs["parts"]:
                gradients[part.name] = whole[part.start : part.stop]
        return float(known[self.loss]), gradients
