"""Arm's scalable matrix extension: FMOPA tile loops in streaming mode for every product, Neon for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Panel, Target, Tile


@dataclass(frozen=True)
class Strip:
    """Columns `start` to `stop`, taken by blocks of `tall` x `wide` ZA tiles, all counted in tiles."""

    tall: int
    wide: int
    start: int
    stop: int


@dataclass(frozen=True)
class Sme(Target):
    """A Neon target whose products run on ZA tiles of `svl_lanes` x `svl_lanes` floats.

    An FMOPA multiplies two vectors into one tile, and the unit wants four tiles in flight. A 2 x 2 block of tiles
    takes four loads for its four FMOPAs, 1 x 4 and 4 x 1 take five: so blocks are 2 x 2 but for a last odd row or
    column of tiles.
    """

    za_unroll: int = 4

    @property
    def svl_lanes(self) -> int:
        """Floats in a streaming vector, rows and columns in a ZA tile."""
        return self.svl_bits // 32

    def across(self, columns: int) -> int:
        """Tiles that cover `columns` floats."""
        return -(-columns // self.svl_lanes)

    def heights(self, columns: int) -> tuple[int, ...]:
        """Row tiles taken at once, largest first: four where an odd last column of tiles can use them."""
        return (4, 2, 1) if self.across(columns) % 2 else (2, 1)

    def strips(self, high: int, columns: int) -> tuple[Strip, ...]:
        """How `high` row tiles cover the columns. A strip lower than `high` is repeated down."""
        across = self.across(columns)
        wide = 4 if high == 1 else 2
        even = across - across % wide
        strips = (Strip(4 // wide, wide, 0, even), Strip(high, across % wide, even, across))
        return tuple(strip for strip in strips if strip.start < strip.stop)

    def unroll(self, steps: int) -> int:
        """Unroll factor of an FMOPA loop of a known number of steps."""
        return next(u for u in (self.za_unroll, 2, 1) if steps % u == 0)

    def tile(self, vectors: int, k: int) -> Tile:
        """The main block of a product `vectors` Neon vectors wide, in rows and Neon vectors."""
        columns = vectors * self.lanes
        heights = self.heights(columns)
        strips = self.strips(heights[0], columns)
        span = self.svl_lanes // self.lanes
        rows = tuple(high * self.svl_lanes for high in heights)
        panels = tuple(Panel((s.stop - s.start) // s.wide, s.wide * span, rows) for s in strips)
        return Tile(strips[0].tall * self.svl_lanes, strips[0].wide * span, self.unroll(k), rows, panels)

    def outer_tile(self, m: int, vectors: int) -> Tile:
        """The same blocks; the first of `heights` is the unit of rows of G that threads divide."""
        return self.tile(vectors, self.za_unroll)


TARGET = Sme(
    name="sme2",
    isa="sme2",
    lanes=4,
    registers=32,
    lane_broadcast=True,
    flags=("-mcpu=apple-m4",),
    triple="aarch64-linux-gnu",
    machine="aarch64",
    needs=("sme2",),
    svl_bits=512,
    product_template="kernels/product_sme2.c.j2",
    outer_template="kernels/outer_sme2.c.j2",
)
