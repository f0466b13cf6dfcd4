"""Arm's scalable matrix extension: FMOPA tile loops in streaming mode for every product, Neon for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from eegen.targets.base import SystemFeature
from eegen.targets.neon import SHARED, Arm
from eegen.targets.tiles import Panel, Tile


class Strip(NamedTuple):
    """Columns `start` to `stop`, taken by blocks of `tall` x `wide` ZA tiles, all counted in tiles."""

    tall: int
    wide: int
    start: int
    stop: int


@dataclass(frozen=True)
class Sme(Arm):
    """A Neon target whose products run on ZA tiles of `svl_lanes` x `svl_lanes` floats.

    An FMOPA multiplies two vectors into one tile, and the unit is busy with four tiles in flight. A 2 x 2 block of
    tiles takes four loads for its four FMOPAs, 1 x 4 and 4 x 1 take five: so blocks are 2 x 2 but for a last odd row or
    column of tiles.
    """

    svl_bits: int = 512  # Apple's
    za_unroll: int = 4
    product_words: str = "z_"
    exchanges_sums: bool = False
    measures_tiles: bool = False
    vector_lengths: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    vectors_name: str = "streaming vectors"

    @property
    def vector_bits(self) -> int:
        return self.svl_bits

    @property
    def machine_bits(self) -> str:
        return "sme_vector_bits()"

    def with_vector_bits(self, bits: int) -> Sme:
        bits = bits or self.svl_bits
        cpu = f"max,sme=on,sme-default-vector-length={bits // 8}"
        return replace(self, svl_bits=bits, slack_rows=max(16, bits // 32), emulated_cpu=cpu)

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

    def outer_heights(self, rows: int, columns: int) -> tuple[int, ...]:
        """Those of `heights` that occur where `rows` rows are divided in whole units of the first."""
        first, *rest = self.heights(columns)
        whole, last = divmod(self.across(rows), first)
        return ((first,) if whole else ()) + tuple(high for high in rest if last & high)

    def strips(self, high: int, columns: int) -> tuple[Strip, ...]:
        """How `high` row tiles cover the columns. A strip lower than `high` is repeated down."""
        across = self.across(columns)
        wide = 4 if high == 1 else 2
        even = across - across % wide
        strips = (Strip(4 // wide, wide, 0, even), Strip(high, across % wide, even, across))
        return tuple(strip for strip in strips if strip.start < strip.stop)

    def panel_floats(self, k: int, columns: int) -> int:
        """Scratch that a product of inner size `k` needs for each thread, on 64 bytes."""
        return self.heights(columns)[0] * self.svl_lanes * k

    def unroll(self, steps: int) -> int:
        """Unroll factor of an FMOPA loop of a known number of steps."""
        return next(u for u in (self.za_unroll, 2, 1) if steps % u == 0)

    def tile(self, vectors: int, k: int) -> Tile:
        """For a product `vectors` Neon vectors wide: rows taken at once, and the blocks across."""
        columns = vectors * self.lanes
        heights = self.heights(columns)
        span = self.svl_lanes // self.lanes
        rows = tuple(high * self.svl_lanes for high in heights)
        panels = tuple(
            Panel((strip.stop - strip.start) // strip.wide, strip.wide * span, rows)
            for strip in self.strips(heights[0], columns)
        )
        return Tile(rows[0], panels[0].vectors, self.unroll(k), rows, panels)

    def outer_tile(self, m: int, vectors: int, multiple: int = 4) -> Tile:
        """The same blocks; `rows` is the unit in which threads divide the rows of G."""
        return self.tile(vectors, self.za_unroll)


TARGET = Sme(
    **SHARED,
    name="sme2",
    vocabulary="sme2",
    flags=("-mcpu=apple-m4",),
    needs=("sme2",),
    feature=SystemFeature("SME", "getauxval(AT_HWCAP2) & 1UL << 23", "hw.optional.arm.FEAT_SME"),
    clang=19,
    apple_clang=16,
    product_template="kernels/product_sme2.c.j2",
    outer_template="kernels/outer_sme2.c.j2",
).with_vector_bits(0)
