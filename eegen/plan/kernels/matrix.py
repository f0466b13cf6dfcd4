"""The two matrix kernels: a product in register tiles, and the sum of outer products that is a weight's gradient."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.plan.kernels.kernel import Kernel, Param, Work
from eegen.plan.kernels.rows import Step, operand_names, step_params
from eegen.targets import Tile

MOST_TRANSPOSED = 128  # of k, in a transposed panel of B: with 64 columns of it 32 KB, which stay in L1


def product_shape(vectors: int, k: int) -> str:
    """What a measured tile is for: a product `vectors` wide of inner size k."""
    return f"product {vectors} x {k}"


def outer_shape(m: int, vectors: int) -> str:
    """The same for a weight gradient of m rows."""
    return f"outer {m} x {vectors}"


@dataclass(frozen=True)
class Product(Kernel):
    """C[rows][n] = A[rows][k] · B[k][n], then the epilogue on every element.

    `transposed`: B lies as [n][k], and a panel of it at a time is transposed into scratch memory.
    `paired`: scalars of A are read two at a time. `streams`: the weights do not fit L2. `panel`: numbers of scratch
    memory.
    """

    k: int
    n: int
    lda: int
    ldb: int
    ldc: int
    tile: Tile
    epilogue: tuple[Step, ...] = ()
    prefix: str = "v_"
    streams: bool = False
    transposed: bool = False
    paired: bool = False
    panel: int = 0
    template: str = "kernels/product.c.j2"

    restrict = True

    @property
    def stem(self) -> str:
        ops = "".join(f"_{s.op}" for s in self.epilogue)
        return f"product_{self.k}x{self.n}{'_transposed' if self.transposed else ''}{ops}"

    @property
    def tiling(self) -> str:
        return str(self.tile)

    @property
    def operand_names(self) -> tuple[str, ...]:
        return operand_names(self.epilogue)

    @property
    def block(self) -> int:
        """The part of k done at a time."""
        return block(self.k, self.transposed)

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("a", "rows", "read", self.lda),
            Param("b", "weights", "read", (self.n if self.transposed else self.k) * self.ldb),
            Param("c", "rows", "write", self.ldc),
            Param("", "range"),
            *([Param("panel", "scratch", "write")] if self.panel else []),
            *step_params(self.epilogue, self.n),
        )

    @property
    def scratch(self) -> int:
        return self.panel

    @property
    def flops(self) -> Work:
        return Work(2 * self.k * self.n)

    @property
    def shape(self) -> str:
        ops = "".join(f", {s.op}" for s in self.epilogue)
        return f"[rows][{self.k}] x [{self.k}][{self.n}]{ops}"

    @property
    def about(self) -> str:
        return f"C = A B on every row: {self.shape}. Tile {self.tile}. {self.flops.row} FLOPs a row."


def block(k: int, transposed: bool) -> int:
    """The part of the inner size that a product does at a time."""
    parts = [part for part in range(16, MOST_TRANSPOSED + 1, 16) if k % part == 0]
    return max(parts) if transposed and k > MOST_TRANSPOSED and parts else k


@dataclass(frozen=True)
class Outer(Kernel):
    """G[m][n] = sum over rows of A[row][m] · B[row][n]: the gradient of a matrix.

    `fused`: the optimizer takes each tile of it out of the registers and updates the weights, their packed copy (rows
    `packed_ld` apart, 0: there is none) and the `moments`; G is written only where the caller passes no constants.
    `partial`: G may hold a part of the sum already. `streams`: weights and moments do not fit L2.
    """

    m: int
    n: int
    lda: int
    ldb: int
    ldg: int
    packed_ld: int
    tile: Tile
    fused: bool = False
    streams: bool = False
    partial: bool = True
    moments: tuple[str, ...] = ()
    template: str = "kernels/outer.c.j2"

    restrict = True

    @property
    def stem(self) -> str:
        return f"outer_{self.m}x{self.n}{'_update' if self.fused else ''}"

    @property
    def tiling(self) -> str:
        return str(self.tile)

    @property
    def tiles(self) -> int:
        """Tiles of rows of G, the units in which threads share it."""
        return -(-self.m // self.tile.rows)

    @property
    def size(self) -> int:
        return self.m * self.ldg

    @property
    def update_params(self) -> tuple[Param, ...]:
        """What the optimizer needs, where it is fused."""
        if not self.fused:
            return ()
        return (
            Param("h", "constants"),
            Param("w", "updated", "both", self.size),
            *([Param("packed", "packed", "write", self.n * self.packed_ld)] if self.packed_ld else []),
            *(Param(f"{moment}_at", "moment", "both", self.size) for moment in self.moments),
        )

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("a", "rows", "read", self.lda),
            Param("b", "rows", "read", self.ldb),
            Param("g", "gradient", "write", 0 if self.fused else self.size),
            Param("rows", "count"),
            Param("", "range"),
            *([Param("more", "partial")] if self.partial else []),
            *self.update_params,
        )

    @property
    def flops(self) -> Work:
        return Work(2 * self.m * self.n)

    @property
    def shape(self) -> str:
        return f"[{self.m}][rows] x [rows][{self.n}]"

    @property
    def about(self) -> str:
        return f"G = A^T B over all rows: {self.shape}. Tile {self.tile}. {self.flops.row} FLOPs a row."
