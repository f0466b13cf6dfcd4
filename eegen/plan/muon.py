"""Pass 6, for Muon: the tensors that its rule for matrices updates, and the kernels that it takes."""

from __future__ import annotations

from collections.abc import Iterable

from eegen.plan.kernels.matrix import Outer, Product
from eegen.plan.kernels.newton_schulz import NewtonSchulz
from eegen.plan.layout import apart
from eegen.plan.lowering.builder import KernelTable
from eegen.plan.records import MatrixUpdate, Parameter
from eegen.targets import Target

TALL = 1.5  # sides longer than wide from which on squares are cheaper: 17 + 2 n products [side][side] for 5 + 10 n


def matrix_updates(parameters: Iterable[Parameter], target: Target, kernels: KernelTable) -> tuple[MatrixUpdate, ...]:
    """Every tensor of the parameters that the optimizer has a rule for as a matrix; those of a stack one by one."""
    matrices = [parameter for parameter in parameters if parameter.matrix]
    return tuple(update_of(p, i, target, kernels) for p in matrices for i in range(len(p.parts)))


def update_of(parameter: Parameter, i: int, target: Target, kernels: KernelTable) -> MatrixUpdate:
    part = parameter.parts[i]
    out, inner = part.stop - part.start, parameter.shape[1]
    at, rows, cols = i * parameter.segment, parameter.rows, parameter.segment
    real = (inner, out)
    if not parameter.flipped:
        at, rows, cols, real = at * parameter.ld, parameter.segment, parameter.cols, (out, inner)
    transposed = real[0] < real[1]
    side, padded = (real[0], rows) if transposed else (real[1], cols)
    kernel = newton_schulz(side, padded, max(real) >= TALL * side, target, kernels)
    stretch = max(1.0, out / inner) ** 0.5
    return MatrixUpdate(part.name, kernel, parameter.offset + at, rows, cols, parameter.ld, transposed, stretch)


def newton_schulz(side: int, padded: int, tall: bool, target: Target, kernels: KernelTable) -> NewtonSchulz:
    ld, vectors = apart(padded), padded // target.lanes
    square = Outer(
        m=padded,
        n=padded,
        lda=ld,
        ldb=ld,
        ldg=ld,
        packed_ld=0,
        tile=target.outer_tile(padded, vectors, multiple=4),
        partial=target.exchanges_sums,
        template=target.outer_template,
    )
    k = -(-side // target.inner_multiple) * target.inner_multiple
    times = Product(
        k=k,
        n=padded,
        lda=ld,
        ldb=ld,
        ldc=ld,
        tile=target.tile(vectors, k),
        prefix=target.product_words,
        panel=target.panel_floats(k, padded),
        template=target.product_template,
    )
    kernel = NewtonSchulz(
        side=side,
        padded=padded,
        ld=ld,
        tall=tall,
        slack_rows=target.slack_rows,
        square=kernels.add(square),
        times=kernels.add(times),
    )
    return kernels.add(kernel)
