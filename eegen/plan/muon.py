"""Muon's matrices as kernels: each hidden matrix is orthogonalised by Newton-Schulz turns made of products and squares.

Orthogonalising commutes with transposing, so a matrix is always worked on with its longer side as rows: X [rows][side],
A = XᵀX [side][side], X <- X B with B = a + b A + c A². A itself goes to B A B then: where X is much longer than wide,
the turns are made on A alone and X is multiplied once, by the product of all B. In single precision that leaves errors
of 1e-3 where the other way leaves 2e-5, far below what five turns miss of orthogonality anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eegen.language.optimizers import NEWTON_SCHULZ, NEWTON_SCHULZ_TURNS
from eegen.plan.kernels.kernel import Kernel, Param, Work
from eegen.plan.kernels.matrix import Outer, Product

if TYPE_CHECKING:
    from eegen.plan.planner import Parameter, Planner


TALL = 1.5  # sides longer than wide from which on squares are cheaper: 17 + 2 n products [side][side] for 5 + 10 n


@dataclass(frozen=True)
class NewtonSchulz(Kernel):
    """X <- X (a + b A + c A²), A = XᵀX, for X of any number of rows and `side` columns in `padded` ones, `ld` apart.

    `tall`: X is multiplied at the end only.
    """

    side: int
    padded: int
    ld: int
    tall: bool
    square: Outer  # A = XᵀX
    times: Product  # rows times a [side][side] matrix

    template = "kernels/newton_schulz.c.j2"

    @property
    def stem(self) -> str:
        return f"orthogonalize_{'tall_' if self.tall else ''}{self.side}"

    @property
    def parts(self) -> tuple[Kernel, ...]:
        return (self.square, self.times)

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("x", "rows", "both", self.ld),
            Param("y", "rows", "both", self.ld),
            Param("work", "weights", "both", 4 * self.side * self.ld),
            Param("rows", "count"),
            Param("panel", "scratch", "write"),
        )

    @property
    def turns(self) -> int:
        return NEWTON_SCHULZ_TURNS

    @property
    def coefficients(self) -> tuple[float, float, float]:
        return NEWTON_SCHULZ

    @property
    def flops(self) -> Work:
        products = 4 * self.turns - 3 if self.tall else self.turns
        return Work(4 * self.side**2 * (1 if self.tall else self.turns), once=2 * self.side**3 * products)

    @property
    def shape(self) -> str:
        return f"[rows][{self.side}]"

    @property
    def about(self) -> str:
        where = " on the square of X" if self.tall else ""
        return (
            f"The nearest orthogonal matrix, almost, by {self.turns} Newton-Schulz turns{where}: {self.shape}. "
            f"{self.flops.row} FLOPs a row and {self.flops.once} more."
        )


@dataclass(frozen=True)
class Hidden:
    """A tensor that Muon moves: [rows][cols] floats as stored, padding included, `ld` apart, at `at` among the weights.

    `turned`: its columns are the longer side. `stretch` is √(out / in), at least 1.
    """

    name: str
    kernel: NewtonSchulz
    at: int
    rows: int
    cols: int
    ld: int
    turned: bool
    stretch: float

    @property
    def tall(self) -> int:
        """Floats of the longer side."""
        return self.cols if self.turned else self.rows


def hidden_matrices(p: Planner) -> list[Hidden]:
    """Every tensor of the parameters that Muon has a rule for; those of a stack one by one."""
    hidden = [parameter for parameter in p.plan.parameters if parameter.hidden]
    return [matrix_of(p, parameter, i) for parameter in hidden for i in range(len(parameter.parts))]


def matrix_of(p: Planner, parameter: Parameter, i: int) -> Hidden:
    part = parameter.parts[i]
    out, inner = part.stop - part.start, parameter.shape[1]
    at, rows, cols = i * parameter.segment, parameter.rows, parameter.segment
    real = (inner, out)
    if not parameter.flipped:
        at, rows, cols, real = at * parameter.ld, parameter.segment, parameter.cols, (out, inner)
    turned = real[0] < real[1]
    side, padded = (real[0], rows) if turned else (real[1], cols)
    kernel = newton_schulz(p, side, padded, max(real) >= TALL * side)
    stretch = max(1.0, out / inner) ** 0.5
    return Hidden(part.name, kernel, parameter.offset + at, rows, cols, parameter.ld, turned, stretch)


def newton_schulz(p: Planner, side: int, padded: int, tall: bool) -> NewtonSchulz:
    from eegen.plan.planner import apart

    target, ld = p.plan.target, apart(padded)
    vectors = padded // p.lanes
    tile = target.outer_tile(padded, vectors, multiple=4)
    square = Outer(padded, padded, ld, ld, ld, 0, tile, partial=not target.svl_bits, schedule=target.outer_template)
    k = padded if target.lane_broadcast else side
    tile, prefix = target.tile(vectors, k), "z_" if target.svl_bits else "v_"
    panel = target.panel_floats(k, padded)
    times = Product(k, padded, ld, ld, ld, tile, (), prefix, panel=panel, schedule=target.product_template)
    kernels = p.kernel(square), p.kernel(times)
    found = p.kernel(NewtonSchulz(side, padded, ld, tall, *kernels))
    assert isinstance(found, NewtonSchulz)
    return found
