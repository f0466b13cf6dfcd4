"""What a target is, and the stated machine model that chooses its register tiles."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Panel:
    """`count` neighbouring column panels, each `vectors` registers wide, and the row counts written out for them.

    Rows are covered by the first height as long as it fits, then by the next; the last height is 1 (unless the
    caller's rows are a known multiple of it).
    """

    count: int
    vectors: int
    heights: tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """A block of accumulators: `rows` x `vectors` registers, the inner loop unrolled `unroll` times.

    `panels` cover all the columns, the widest first; `heights` are those of the widest.
    """

    rows: int
    vectors: int
    unroll: int
    heights: tuple[int, ...]
    panels: tuple[Panel, ...]

    def __str__(self) -> str:
        return f"{self.rows} rows x {self.vectors} vectors, unrolled {self.unroll}"


@dataclass(frozen=True)
class Target:
    """One instruction set: its vectors and registers, how to compile for it, what it needs to run.

    The machine model is `fma_latency` cycles for a chain of FMAs, `fma_ports` of them and `load_ports` loads a
    cycle. Where `lane_broadcast` is set (Arm), a scalar of A is a lane of a vector loaded once for several steps
    and neighbouring loads pair up, and what is minimised is executed instructions.
    """

    name: str
    isa: str
    lanes: int
    registers: int
    lane_broadcast: bool = False
    flags: tuple[str, ...] = ()
    triple: str | None = None
    machine: str = "any"
    needs: tuple[str, ...] = ()
    svl_bits: int = 0
    product_template: str = "kernels/product.c.j2"
    outer_template: str = "kernels/outer.c.j2"
    fma_latency: int = 4
    fma_ports: int = 2
    load_ports: int = 2
    body_fmas: int = 128

    def tile(self, vectors: int, k: int) -> Tile:
        """The tile for C = A·B with `vectors` registers across a row of C and inner size `k`."""
        unroll = min(k, 4)
        return self._best(vectors, unroll, range(1, 25), self._product_registers, self._product_cost)

    def outer_tile(self, m: int, vectors: int) -> Tile:
        """The tile for G = Aᵀ·B with `m` rows and `vectors` registers across a row of G."""
        step = self.outer_step
        rows = range(step, max(step, m) + 1, step)
        tile = self._best(vectors, 1, rows, self._outer_registers, self._outer_cost)
        return tile

    @property
    def outer_step(self) -> int:
        """Rows of G come in multiples of this (a vector of A on Arm, half a transposed block elsewhere)."""
        return 4

    def chains(self, rows: int, vectors: int) -> int:
        """Independent sums for each accumulator of a tile too small to hide the latency of an FMA."""
        wanted = self.fma_latency * self.fma_ports
        return min(4, 2 ** max(0, ceil(wanted / (rows * vectors)) - 1).bit_length()) if rows * vectors < wanted else 1
