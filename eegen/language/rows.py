"""The rows of a batch as the oracle sees them: equal prefixes, and equal (token, position) pairs, are one row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

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

    @property
    def levels(self) -> list[Array]:
        """The prefix rows of each length, the shortest first."""
        depth = np.zeros(self.prefixes, int)
        for row, parent in enumerate(self.parent):
            depth[row] = depth[parent] + 1 if parent >= 0 else 0
        return [np.flatnonzero(depth == level) for level in range(int(depth.max(initial=-1)) + 1)]

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
