"""What a target is, and the stated machine model that chooses its register tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

LOW = 0.2  # what a row more saves a gradient's tile of one (measured); the other copy is written in larger pieces, too
Choice = tuple[int, int, int]
"""Rows, vectors and unroll factor: what a tile is when it is measured, not modelled."""

SECOND_PANEL = 1.1  # what a column costs in a panel of another width, which is more code for less use


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
    and neighbouring loads pair up, and what is minimised is executed instructions. `fixed_tile` is for a target
    whose registers are the compiler's business. `turns`: where a product needs a matrix the other way round, it turns
    panels of it on its way; elsewhere the optimizer keeps a second copy. `pairs`: where a row of C is one vector, such
    a matrix is turned so that scalars of A are loaded two at once: loads are what limits that product.
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
    fixed_tile: tuple[int, int] | None = None
    turns: bool = False
    pairs: bool = False

    def tile(self, vectors: int, k: int) -> Tile:
        """The tile for C = A·B with `vectors` registers across a row of C and inner size `k`."""
        panels = _cover(vectors, range(1, 13), self.product_cost)
        panels = tuple(replace(panel, heights=_heights(panel.heights[0])) for panel in panels)
        unroll = 4
        longest = k if self.lane_broadcast else k - 1
        while 2 * unroll <= longest and 2 * unroll * panels[0].heights[0] * panels[0].vectors <= self.body_fmas:
            unroll *= 2
        return Tile(panels[0].heights[0], panels[0].vectors, min(unroll, k), panels[0].heights, panels)

    def outer_tile(self, m: int, vectors: int, multiple: int = 2) -> Tile:
        """The tile for G = Aᵀ·B with `m` rows and `vectors` registers across a row of G.

        All panels have one height, a multiple of `multiple` (4 on Arm at least: a vector of A is four rows of G).
        """
        step = max(multiple, 4 if self.lane_broadcast else 1)
        covers = [_cover(vectors, [rows], self.outer_cost) for rows in range(step, 17, step) if rows < m + step]

        def total(panels: tuple[Panel, ...]) -> float:
            full, short = divmod(m, panels[0].heights[0])
            return sum(
                panel.count * panel.vectors * rows * self.outer_cost(rows, panel.vectors)
                for panel in panels
                for rows in [panels[0].heights[0]] * full + [short] * (short > 0)
            )

        panels = min(covers, key=total)
        unroll = 4 if self.lane_broadcast else 2
        return Tile(panels[0].heights[0], panels[0].vectors, unroll, panels[0].heights, panels)

    def tile_of(self, vectors: int, choice: Choice) -> Tile:
        """The tile for a product as chosen; a narrower last panel is as high as is cheapest."""
        rows, wide, unroll = choice
        full, rest = divmod(vectors, wide)
        panels = [Panel(full, wide, _heights(rows))]
        if rest:
            high = min(range(1, 13), key=lambda r: self.product_cost(r, rest))
            panels.append(Panel(1, rest, _heights(high)))
        return Tile(rows, wide, unroll, panels[0].heights, tuple(panels))

    def outer_tile_of(self, vectors: int, choice: Choice) -> Tile:
        """The same for a weight gradient, whose panels have one height."""
        rows, wide, unroll = choice
        full, rest = divmod(vectors, wide)
        panels = (Panel(full, wide, (rows,)), *([Panel(1, rest, (rows,))] if rest else []))
        return Tile(rows, wide, unroll, (rows,), panels)

    def choices(self, vectors: int, k: int) -> list[Choice]:
        """Tiles for a product that are worth a try, the most promising first: `tile` is the model's."""
        own = self.tile(vectors, k)
        step = 4 if self.lane_broadcast else 1
        unrolls = [u for u in (own.unroll, own.unroll // 2, 2 * own.unroll) if 0 < u <= k and u % step == 0]
        return self._promising(vectors, range(1, 13), self.product_cost, unrolls)

    def outer_choices(self, m: int, vectors: int, multiple: int = 4) -> list[Choice]:
        """The same for a weight gradient."""
        own = self.outer_tile(m, vectors, multiple)
        heights = [rows for rows in range(multiple, 17, multiple) if rows < m + multiple]
        return self._promising(vectors, heights, self.outer_cost, [own.unroll, 2 * own.unroll, own.unroll // 2])

    def _promising(
        self, vectors: int, heights: Sequence[int], cost: Callable[[int, int], float], unrolls: Sequence[int]
    ) -> list[Choice]:
        """Per width the cheapest heights, up to twice the cost of the best; other unroll factors a little later."""
        found = []
        for wide in range(1, min(vectors, 16) + 1):
            costs = sorted((cost(rows, wide), rows) for rows in heights)
            for each, rows in costs[:3]:
                full, rest = divmod(vectors, wide)
                last = min(cost(r, rest) for r in heights) * SECOND_PANEL if rest else 0
                total = full * wide * each + rest * last if rest else full * wide * each
                found += [(total * (1 + 0.04 * i), (rows, wide, u)) for i, u in enumerate(unrolls) if u]
        cheapest = min(found)[0]
        return [choice for total, choice in sorted(found) if total < min(2 * cheapest, inf)]

    def panel_floats(self, k: int, columns: int) -> int:
        """Scratch that a product of inner size `k` needs for each thread."""
        return 0

    def chains(self, rows: int, vectors: int) -> int:
        """Independent sums for each accumulator of a tile too small to hide the latency of an FMA."""
        wanted = self.fma_latency * self.fma_ports / (rows * vectors)
        return 1 if wanted <= 1 else 2 if wanted <= 2 else 4

    def product_ahead(self, rows: int, vectors: int) -> int:
        """On Arm, for how many steps a row's scalars are loaded at once: a pair of vectors where there is room."""
        return 8 if rows * vectors + 2 * rows + min(vectors, 4) <= self.registers - 2 else 4

    def product_cost(self, rows: int, vectors: int) -> float:
        """Cycles (instructions, on Arm) for each FMA of an inner step; infinite where the registers run out.

        On Arm up to four neighbouring vectors of B are one load, four more another and its address; one or two vectors
        of a row of A are one.
        """
        fmas = rows * vectors
        if self.lane_broadcast:
            ahead = self.product_ahead(rows, vectors)
            spare = self.registers - fmas - rows * ahead // 4 - min(vectors, 4)
            return 1 + 1 / (ahead * vectors) + (2 * ceil(vectors / 4) - 1) / fmas if spare >= 2 else inf
        return self._cycles(rows, vectors)

    def outer_cost(self, rows: int, vectors: int) -> float:
        """The same for one row of A and B in a weight gradient, where neighbouring scalars of A are one load on Arm."""
        fmas = rows * vectors
        if self.lane_broadcast:
            spare = self.registers - fmas - ceil(rows / 4) - vectors
            loads = ceil(rows / 16) + (rows <= 4) + ceil(vectors / 4) + 3 * (vectors == 1)  # alone, dear (measured)
            return 1 + (loads + 1) / fmas if spare >= 2 else inf
        return self._cycles(rows, vectors) + LOW / rows

    def _cycles(self, rows: int, vectors: int) -> float:
        """The limits of ports and latency; a load costs a fifth of an FMA even where ports are free (measured)."""
        fmas, loads = rows * vectors, rows + vectors
        if self.fixed_tile:
            high, wide = self.fixed_tile
            return 1 / vectors if rows <= high and vectors <= wide else inf
        if fmas + vectors + 1 > self.registers or vectors > 4:
            return inf
        latency = (self.fma_latency + 0.5) / self.chains(rows, vectors)
        return max(fmas / self.fma_ports, loads / self.load_ports, latency) / fmas * (1 + 0.2 * loads / fmas)


def _cover(vectors: int, heights: Sequence[int], cost: Callable[[int, int], float]) -> tuple[Panel, ...]:
    """The cheapest way to cover `vectors` columns: panels of one width and a narrower rest, each at its best height.

    Where one vector would be left alone, the last wide panel gives it company: 16 vectors are 4 x 3 and 2 x 2.
    """
    best = {w: min((cost(rows, w), rows) for rows in heights) for w in range(1, min(vectors, 16) + 1)}

    def total(cover: list[tuple[int, int]]) -> float:
        costs = [count * width * best[width][0] for count, width in cover]
        return costs[0] + SECOND_PANEL * sum(costs[1:])

    covers = []
    for wide in best:
        full, rest = divmod(vectors, wide)
        covers.append([(full, wide)] + ([(1, rest)] if rest else []))
        if rest == 1 and wide % 2 and wide > 1 and full > 1:
            covers.append([(full - 1, wide), (2, (wide + 1) // 2)])
    return tuple(Panel(count, width, (best[width][1],)) for count, width in min(covers, key=total))


def _heights(rows: int) -> tuple[int, ...]:
    """`rows` and lower ones down to 1, in steps of a fifth: what is left of any row count fills one or two tiles."""
    return (1,) if rows == 1 else (rows, *_heights(rows - max(1, rows // 5)))
