"""Products with the largest entries of a row alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from eegen.language.formats import I32
from eegen.plan.kernels.kernel import Kernel, Param, Work

MOST_VECTORS = 8


class Columns(NamedTuple):
    """Neighbouring vectors of a row, from column `start` on."""

    start: int
    vectors: int


@dataclass(frozen=True)
class TopLinear(Kernel):
    """y = the sum of the rows of w for the `most` largest positive entries of x, times those; or the way back.

    `width` is that of x, `n` that of a row of w, padded. The way back: entry i of the result is dy · w[i] for the
    entries that were chosen, else zero.
    """

    width: int
    n: int
    lanes: int
    ld: int
    out_ld: int
    w_ld: int
    most: int
    backward: bool = False

    template = "kernels/top_linear.c.j2"

    @property
    def columns(self) -> tuple[Columns, ...]:
        """The vectors of a row of the result, as many at a time as stay in registers."""
        vectors = self.n // self.lanes
        return tuple(Columns(v * self.lanes, min(MOST_VECTORS, vectors - v)) for v in range(0, vectors, MOST_VECTORS))

    @staticmethod
    def list_size(most: int) -> int:
        """Numbers in the list of a row: how many entries were chosen, which, and one that the search writes past
        them.
        """
        return most + 2

    @property
    def list_ld(self) -> int:
        return self.list_size(self.most)

    @property
    def stem(self) -> str:
        return f"top_linear{'_grad' if self.backward else ''}_{self.most}_of_{self.width}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("dy" if self.backward else "x", "rows", "read", self.ld),
            Param("w", "weights", "read", self.most * self.w_ld),
            Param("chosen", "rows", "read" if self.backward else "write", self.list_ld, I32),
            Param("dx" if self.backward else "y", "rows", "write", self.out_ld),
            Param("", "range"),
        )

    @property
    def flops(self) -> Work:
        return Work(2 * self.most * self.n)

    @property
    def shape(self) -> str:
        return f"[rows][{self.most} of {self.width}] x [{self.width}][{self.n}]"

    @property
    def about(self) -> str:
        way = "Dot products with the chosen rows" if self.backward else "The largest entries times their rows"
        return f"{way} of a matrix: {self.shape}. {self.flops.row} FLOPs a row."


@dataclass(frozen=True)
class TopOuter(Kernel):
    """G[i] = sum over rows that chose i of x[i] · dy: the gradient of the rows of the matrix, `n` numbers each."""

    n: int
    ld: int
    dy_ld: int
    ldg: int
    most: int
    vectors: int

    template = "kernels/top_outer.c.j2"

    @property
    def list_ld(self) -> int:
        return TopLinear.list_size(self.most)

    @property
    def stem(self) -> str:
        return f"top_outer_{self.most}x{self.n}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("chosen", "rows", "read", self.list_ld, I32),
            Param("x", "rows", "read", self.ld),
            Param("dy", "rows", "read", self.dy_ld),
            Param("g", "gradient", "both", self.most * self.ldg),
            Param("rows", "count"),
            Param("", "range"),
        )

    @property
    def flops(self) -> Work:
        return Work(2 * self.most * self.n)

    @property
    def shape(self) -> str:
        return f"[{self.most} chosen][rows] x [rows][{self.n}]"

    @property
    def about(self) -> str:
        return f"The gradient of the rows of a matrix that were chosen: {self.shape}. {self.flops.row} FLOPs a row."
