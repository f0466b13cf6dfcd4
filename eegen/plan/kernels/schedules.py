"""Schedules of the matrix kernels: what their templates print, derived from a kernel and the target it is for.

A schedule holds every size, count and distance that the C of a kernel contains as a literal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eegen.plan.kernels.matrix import Outer, Product
from eegen.targets import Panel, Target

PAIR_REACH = 236  # floats from a base that loads and stores in pairs reach on Arm
WIDEST_LOAD = 4  # neighbouring vectors of one load on Arm
LINE = 16  # floats of a cache line


@dataclass(frozen=True)
class Piece:
    """`count` neighbouring vectors from vector `first` on, which one load or store takes; `words` is their prefix."""

    first: int
    count: int
    at: int  # floats before it

    @property
    def words(self) -> str:
        return f"v{self.count}" if self.count > 1 else "v"


@dataclass(frozen=True)
class RowTile:
    """A tile as high as `rows`: `chains` independent sums for each accumulator; A is loaded for `ahead` steps at once."""

    rows: int
    chains: int
    ahead: int = 1


@dataclass(frozen=True)
class ColumnPanels:
    """Neighbouring panels of `width` columns from column `start` to `stop`, and the row tiles that cover their rows.

    `pieces` are the loads of a row of the panel.
    """

    start: int
    stop: int
    width: int
    vectors: int
    tiles: tuple[RowTile, ...]
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """Of the function of a tile, after the kernel's."""
        return f"tile_{self.vectors}"

    @property
    def rows(self) -> int:
        """The highest tile."""
        return max(tile.rows for tile in self.tiles)

    @property
    def chains(self) -> int:
        """The most sums of an accumulator."""
        return max(tile.chains for tile in self.tiles)


def pieces(vectors: int, lanes: int) -> tuple[Piece, ...]:
    """Loads of `vectors` neighbouring vectors, each as wide as possible."""
    return tuple(
        Piece(first, min(WIDEST_LOAD, vectors - first), first * lanes) for first in range(0, vectors, WIDEST_LOAD)
    )


def column_panels(panels: tuple[Panel, ...], target: Target, heights: tuple[int, ...] = ()) -> Iterator[ColumnPanels]:
    """The panels of a tile with their columns; `heights` replaces the heights of each."""
    start = 0
    for panel in panels:
        width = panel.vectors * target.lanes
        stop = start + panel.count * width
        tiles = tuple(
            RowTile(rows, target.chains(rows, panel.vectors), target.product_ahead(rows, panel.vectors))
            for rows in heights or panel.heights
        )
        yield ColumnPanels(start, stop, width, panel.vectors, tiles, pieces(panel.vectors, target.lanes))
        start = stop


@dataclass(frozen=True)
class ProductSchedule:
    """How a product in register tiles is done.

    The inner size is done `unroll` steps an iteration, `looped` steps in all, and `rest` steps outside the loop.
    `near_a` and `near_c` neighbouring rows of A and of C share a base pointer.
    """

    panels: tuple[ColumnPanels, ...]
    unroll: int
    looped: int
    rest: int
    near_a: int
    near_c: int

    @property
    def iterations(self) -> int:
        return self.looped // self.unroll


def lane_product(k: Product, target: Target) -> ProductSchedule:
    """The schedule of product_neon: the steps that do not divide come first, and there are always some."""
    unroll = k.tile.unroll
    rest = k.k % unroll or unroll
    near_a, near_c = (PAIR_REACH // stride + 1 for stride in (k.lda, k.ldc))
    return ProductSchedule(tuple(column_panels(k.tile.panels, target)), unroll, k.k - rest, rest, near_a, near_c)


SCHEDULES: dict[str, Any] = {function.__name__: function for function in (lane_product,)}
