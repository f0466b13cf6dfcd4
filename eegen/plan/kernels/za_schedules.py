"""Schedules of the matrix kernels on ZA tiles: blocks of tiles, what covers the columns, what is transposed."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.plan.kernels.matrix import Outer, Product
from eegen.targets.sme2 import Sme


@dataclass(frozen=True)
class Block:
    """`tall` x `wide` ZA tiles, which stay while the inner size passes."""

    tall: int
    wide: int

    @property
    def name(self) -> str:
        return f"block_{self.tall}x{self.wide}"

    def tile(self, row: int, column: int) -> int:
        return row * self.wide + column


@dataclass(frozen=True)
class Strip:
    """Columns `start` to `stop`, `step` at a time, by a block; `down`: rows of a block lower than the band, or 0."""

    block: Block
    start: int
    stop: int
    step: int
    down: int


@dataclass(frozen=True)
class TileColumn:
    """Column `number` of tiles: `lanes` numbers of a row from number `at` on, fewer than a vector unless `whole`."""

    number: int
    at: int
    lanes: int
    whole: bool


@dataclass(frozen=True)
class Transpose:
    """How `width` numbers of the rows of a band become columns: through tiles [row][column], `deep` columns of them."""

    name: str
    width: int
    deep: int
    columns: tuple[TileColumn, ...]

    def tile(self, row: int, column: TileColumn) -> int:
        return row * self.deep + column.number


@dataclass(frozen=True)
class Band:
    """Rows taken at once: `high` row tiles, `rows` rows; the band is used while more than `least` rows are left.

    The inner size is transposed by `chunk` up to `chunked`, and from there on by `rest`.
    """

    high: int
    rows: int
    least: int
    strips: tuple[Strip, ...]
    chunk: Transpose | None = None
    chunked: int = 0
    rest: Transpose | None = None


@dataclass(frozen=True)
class ZaSchedule:
    """How a product or a weight gradient is done on tiles of `lanes` x `lanes`.

    `steps` in an iteration of the loop over the inner size. `unit`: rows of G that threads share it in. `ragged_...`:
    the last tile is not full.
    """

    lanes: int
    bands: tuple[Band, ...]
    steps: int
    unit: int
    ragged_rows: bool
    ragged_columns: bool

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block that a strip has, once."""
        return tuple(dict.fromkeys(strip.block for band in self.bands for strip in band.strips))

    @property
    def heights(self) -> tuple[int, ...]:
        return tuple(band.high for band in self.bands)


def za_product(k: Product, target: Sme) -> ZaSchedule:
    lanes = target.svl_lanes
    bands = []
    for high in target.heights(k.n):
        deep = 4 // high
        rest = k.k % (deep * lanes)
        chunked = k.k - rest
        chunk = transpose("chunk", high, deep * lanes, lanes) if chunked else None
        last = transpose("rest", high, rest, lanes) if rest else None
        bands.append(Band(high, high * lanes, (high - 1) * lanes, strips(high, k.n, target), chunk, chunked, last))
    return ZaSchedule(lanes, tuple(bands), target.unroll(k.k), 1, True, k.n % lanes > 0)


def za_outer(k: Outer, target: Sme) -> ZaSchedule:
    lanes = target.svl_lanes
    heights = target.outer_heights(k.m, k.n)
    bands = tuple(Band(high, high * lanes, (high - 1) * lanes, strips(high, k.n, target)) for high in heights)
    return ZaSchedule(lanes, bands, target.za_unroll, k.tile.rows, k.m % lanes > 0, k.n % lanes > 0)


def strips(high: int, columns: int, target: Sme) -> tuple[Strip, ...]:
    """What covers the columns of a band."""
    lanes = target.svl_lanes
    return tuple(
        Strip(
            Block(strip.tall, strip.wide),
            strip.start * lanes,
            strip.stop * lanes,
            strip.wide * lanes,
            strip.tall * lanes if strip.tall < high else 0,
        )
        for strip in target.strips(high, columns)
    )


def transpose(name: str, high: int, width: int, lanes: int) -> Transpose:
    columns = tuple(
        TileColumn(number, at, min(width - at, lanes), width - at >= lanes)
        for number, at in enumerate(range(0, width, lanes))
    )
    return Transpose(f"{name}_{high}", width, 4 // high, columns)
