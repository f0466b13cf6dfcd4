"""The nearest orthogonal matrix by Newton-Schulz iterations made of products and squares.

Orthogonalizing commutes with transposing, so a matrix is always worked on with its longer side as rows: X [rows][side],
A = XᵀX [side][side], X <- X B with B = a + b A + c A². A itself goes to B A B then: where X is much longer than wide,
the iterations are on A alone and X is multiplied once, by the product of all B. In single precision that leaves errors
of 1e-3 where the other way leaves 2e-5, far below what five iterations miss of orthogonality anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from eegen.language.optimizers import NEWTON_SCHULZ, NEWTON_SCHULZ_ITERATIONS
from eegen.plan.kernels.kernel import Kernel, Param, Work
from eegen.plan.kernels.matrix import Outer, Product


@dataclass(frozen=True)
class NewtonSchulz(Kernel):
    """X <- X (a + b A + c A²), A = XᵀX, for X of any number of rows and `side` columns in `padded` ones, `ld` apart.

    `tall`: X is multiplied at the end only. `slack_rows`: rows past the last that a product may read.
    """

    side: int
    padded: int
    ld: int
    tall: bool
    slack_rows: int
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
            Param("s", "state", "both"),
            Param("thread", "thread"),
            Param("x", "rows", "both", self.ld),
            Param("y", "rows", "both", self.ld),
            Param("work", "weights", "both", 4 * self.side * self.ld),
            Param("rows", "count"),
            Param("panel", "scratch", "write"),
        )

    @property
    def iterations(self) -> int:
        return NEWTON_SCHULZ_ITERATIONS

    @property
    def coefficients(self) -> tuple[float, float, float]:
        return NEWTON_SCHULZ

    @property
    def flops(self) -> Work:
        products = 4 * self.iterations - 3 if self.tall else self.iterations
        return Work(4 * self.side**2 * (1 if self.tall else self.iterations), once=2 * self.side**3 * products)

    @property
    def shape(self) -> str:
        return f"[rows][{self.side}]"

    @property
    def about(self) -> str:
        where = " on the square of X" if self.tall else ""
        return (
            f"Almost the nearest orthogonal matrix, {self.iterations} Newton-Schulz iterations{where}: {self.shape}. "
            f"{self.flops.row} FLOPs a row and {self.flops.once} more."
        )

    @property
    def area(self) -> int:
        """Numbers of a square [side][side] as it is stored."""
        return self.padded * self.ld

    @property
    def square_size(self) -> int:
        """Those of its memory, with the rows past the last that a product may read."""
        return (self.padded + self.slack_rows) * self.ld

    def calls(self, rows: int) -> list[tuple[Kernel, int]]:
        """The kernels that orthogonalizing a matrix of so many rows calls, and the rows of each call."""
        if self.tall:
            return [(self.square, rows), *[(self.times, self.padded)] * (4 * self.iterations - 3), (self.times, rows)]
        return [(self.square, rows), (self.times, self.padded), (self.times, rows)] * self.iterations

    def work(self, tall: int) -> int:
        """Numbers of memory to work on an X of `tall` rows: two of it, four of its square, and the rows read past
        each.
        """
        return 2 * self.ld * (tall + self.slack_rows) + 4 * self.square_size
