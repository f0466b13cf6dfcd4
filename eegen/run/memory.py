"""An arena as NumPy sees it: its arrays, and the named tensors of a model, as views."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from eegen.emit import arena
from eegen.plan.records import Parameter, Plan, ProgramPlan
from eegen.run.header import Array, Buffer, Header

TYPES = {a.name: a.type for a in arena.ARRAYS}


class Memory:
    """The memory of one arena. Nothing here copies: writing to a view is writing to what the generated code reads."""

    def __init__(self, plan: Plan, program: ProgramPlan, header: Header, buffer: Buffer) -> None:
        self.plan, self.program, self.header, self.buffer = plan, program, header, buffer

    def array(self, name: str, size: int) -> Array:
        """The first `size` items of an array of the arena."""
        return np.frombuffer(self.buffer, TYPES[name], size, self.header.offset(name))

    def row_buffer(self, name: str, rows: int) -> Array:
        """The first rows of a row buffer [rows][ld], padding included."""
        buffer = self.program.buffers[name]
        offset = self.header.slot_offset(buffer.slot)
        return np.frombuffer(self.buffer, np.float32, rows * buffer.ld, offset).reshape(rows, buffer.ld)

    def logits(self, rows: int) -> Array:
        """The first rows of the logits [rows][vocabulary], where the last call left them."""
        return self.row_buffer(self.program.logits, rows)[:, : self.plan.build.model.vocab_size]

    def tensors(self, region: int) -> dict[str, Array]:
        """Every named tensor [out][in] of a region: 0 the weights, 1 their gradients, 2 and up the optimizer state."""
        floats = region * self.plan.weights + (self.plan.packed_size if region else 0)
        whole = np.frombuffer(self.buffer, np.float32, self.plan.weights, self.header.nbytes + 4 * floats)
        return {name: view for p in self.plan.parameters for name, view in parameter_views(p, whole)}


def parameter_views(p: Parameter, region: Array) -> Iterator[tuple[str, Array]]:
    """The named tensors of a parameter as views [out][in] of a region that holds all of them."""
    whole = region[p.offset : p.offset + p.size].reshape(p.rows, p.ld)
    if len(p.shape) == 1:
        yield p.parts[0].name, whole[0, : p.shape[0]]
        return
    matrix = whole.T if p.flipped else whole
    for i, part in enumerate(p.parts):
        start = i * p.segment
        yield part.name, matrix[start : start + part.stop - part.start, : p.shape[1]]
