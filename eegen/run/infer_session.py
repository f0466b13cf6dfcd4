"""A session of the program that runs a trained model: exact losses and samples from weights alone."""

from __future__ import annotations

import numpy as np

from eegen.plan.records import Plan
from eegen.run.data import Dataset
from eegen.run.engine import Engine
from eegen.run.header import Array, Header
from eegen.run.memory import Memory
from eegen.run.random_stream import sample_streams

BUFFER_BYTES = 48 << 20  # of row buffers; more documents in a batch share more rows
MAX_DOCUMENTS = 1024


class InferSession:
    """An engine with an arena for one model's weights and the rows of `documents` documents at a time."""

    def __init__(self, plan: Plan, engine: Engine, longest: int, documents: int) -> None:
        """`longest` is the most positions of a document; memory may allow fewer than `documents` at a time."""
        assert plan.infer is not None, "this plan has no program that infers"
        self.plan, self.engine, self.program = plan, engine, plan.infer
        self.documents = min(documents, documents_at_once(plan, longest))
        self.header = Header(plan, plan.infer)
        self.header.batch, self.header.longest, self.header.threads = self.documents, longest, 1
        self.header.row_capacity = self.header.positions = self.documents * longest
        buffer = engine.allocate(self.header)
        self.header.attach(buffer)
        self.memory = Memory(plan, plan.infer, self.header, buffer)

    @property
    def parameters(self) -> dict[str, Array]:
        """Every named tensor [out][in], a view of the memory that the program reads."""
        return self.memory.tensors(0)

    def loss(self, data: Dataset) -> float:
        """Mean loss per position over every document, each distinct prefix of a batch computed once."""
        total = 0.0
        for documents in data.batches(self.documents):
            total += float(self.engine.call("eegen_evaluate", *self.place_rows(data, documents)) or 0.0)
        return total / data.positions

    def place_rows(self, data: Dataset, documents: Array) -> tuple[int, int, int]:
        """Write the rows of some documents, level after level; how many prefixes, pairs and positions they have."""
        starts, counts = data.starts[documents], np.diff(data.starts)[documents]
        level = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(starts, counts) + level
        # Nodes of the trie are numbered level by level, so their order is that of the rows.
        _, first, row, count = np.unique(data.node[at], return_index=True, return_inverse=True, return_counts=True)
        depth, token = level[first], data.token[at[first]]
        pairs, pair_of = np.unique(token.astype(np.int64) * data.block_size + depth, return_inverse=True)
        self._write("parent", np.where(depth > 0, row[first - 1], -1))
        self._write("count", count)
        self._write("pair_of", pair_of)
        self._write("pair_token", pairs // data.block_size)
        self._write("pair_position", pairs % data.block_size)
        self._write("target_at", row * self.program.logits_ld + data.target[at])
        return len(first), len(pairs), len(at)

    def _write(self, name: str, values: Array) -> None:
        self.memory.array(name, len(values))[:] = values

    def sample(self, count: int, temperature: float, prefix: list[int], seed: int) -> list[list[int]]:
        """Token lists of `count` samples that begin with `prefix`; sample i is the same for every count."""
        block = self.plan.build.model.block_size
        boundary = self.plan.build.model.vocab_size - 1
        self.header.temperature = temperature
        streams = sample_streams(seed, count)
        result: list[list[int]] = []
        while len(result) < count:
            n = min(self.documents, count - len(result))
            text = self.memory.array("text", n * (block + 1)).reshape(n, block + 1)
            text[:] = -1
            text[:, : len(prefix)] = prefix
            self._write("stream", streams[len(result) : len(result) + n])
            self.engine.call("eegen_sample", n)
            lengths = self.memory.array("length", n)
            result += [list(row[:length]) for row, length in zip(text.tolist(), lengths, strict=True)]
        assert all(boundary not in tokens for tokens in result)
        return result

    def close(self) -> None:
        """Release the memory, and end the process of an emulated engine. Views are not to be used afterwards."""
        self.engine.close()


def documents_at_once(plan: Plan, longest: int) -> int:
    """Documents whose row buffers stay within `BUFFER_BYTES`, at most `MAX_DOCUMENTS` and at least one."""
    assert plan.infer is not None
    keys = longest + 8
    row = 2 * 4 * keys
    for slot in plan.infer.slots:
        row += slot.format.bytes * slot.ld * (keys if slot.domain == "keys" else 1)
    return max(1, min(MAX_DOCUMENTS, BUFFER_BYTES // (row * longest)))
