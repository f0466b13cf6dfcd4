"""Pass 1: where each parameter lives, which way round, and whether it has a packed copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from eegen.language.graph import Graph, Value
from eegen.language.optimizers import Optimizer
from eegen.plan.records import Parameter, up
from eegen.targets import Target

Uses = Mapping[Value, list[Value]]
Layout = Mapping[Value, Parameter]


def apart(width: int) -> int:
    """The stride of rows of that width: multiples of 512 bytes would put a panel of columns into few sets of L1."""
    return width + 16 if width % 128 == 0 else width


def row_unit(target: Target) -> int:
    """Rows are padded to a multiple of that many numbers."""
    return max(target.lanes, 4)


def lay_out(
    graph: Graph,
    uses: Uses,
    gradients: Mapping[Value, list[Value]],
    repeated: Collection[Value],
    optimizer: Optimizer,
    target: Target,
) -> dict[Value, Parameter]:
    """A place for every parameter. `gradients` are the terms of each one's gradient, of none in a program that infers.

    A matrix that is read both ways is stored as the optimizer is faster with: wider rows. Where a product reads it the
    other way, it has a packed copy, or the product transposes panels of it; not so the `repeated` products of a loop.
    """
    unit = row_unit(target)
    offset = packed_offset = 0
    layout = {}
    for value in graph.parameters:
        readers = uses.get(value, [])
        reads = {use.op.reads for use in readers if use.op.reads}
        gathered = any(use.op.gathers for use in readers)
        parts = value.attrs["parts"]
        segment = value.shape[0] // len(parts)
        both = {"in_out", "out_in"} <= reads or (bool(reads) and gathered)
        if both:
            segment = up(segment, unit)
            out, inner = segment * len(parts), up(value.shape[1], unit)
            flipped = not gathered and out > inner
        elif reads:
            segment = up(segment, unit)
            out, inner, flipped = segment * len(parts), up(value.shape[1], unit), True
        else:
            *outer, last = value.shape
            out, inner, flipped = (outer[0] if outer else 1), up(last, unit), False
        rows, cols = (inner, out) if flipped else (out, inner)
        transposes = target.transposes_in_product and not any(use in repeated for use in readers)
        copied = both and not transposes
        strided = bool(reads) and all(use.op.strided for use in readers)
        ld, packed_ld = apart(cols) if strided else cols, apart(rows) if copied else 0
        terms = gradients.get(value, [])
        matrix = bool(optimizer.matrix) and value.attrs["role"] == "matrix" and len(value.shape) == 2
        layout[value] = Parameter(
            name=value.label,
            shape=value.shape,
            parts=parts,
            init=value.attrs["init"],
            rows=rows,
            cols=cols,
            ld=ld,
            packed_ld=packed_ld,
            offset=offset,
            flipped=flipped,
            packed=packed_offset if copied else -1,
            segment=segment,
            fused=both and len(terms) == 1 and terms[0].op.kind == "outer" and not matrix,
            matrix=matrix,
            format=value.format,
        )
        offset += up(rows * ld, 16)
        packed_offset += up(cols * packed_ld, 16)
    return layout
