"""Schedules of the matrix kernels: what their templates print, derived from a kernel and the target it is for.

A schedule holds every size, count and distance that the C of a kernel contains as a literal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from eegen.plan.kernels.matrix import Outer, Product
from eegen.targets import Panel, Target

PAIR_REACH = 236  # floats from a base that loads and stores in pairs reach on Arm
WIDEST_LOAD = 4  # neighbouring vectors of one load on Arm
LINE = 16  # floats of a cache line


@dataclass(frozen=True)
class Piece:
    """`count` neighbouring vectors that one load takes, `at` floats after the first of a panel's.

    `tag` tells names of several pieces apart; `type` is their C type, `words` the prefix of their vocabulary.
    """

    count: int
    at: int
    tag: str
    lanes: int

    @property
    def words(self) -> str:
        return f"v{self.count}_" if self.count > 1 else "v_"

    @property
    def type(self) -> str:
        return f"v{self.count}f" if self.count > 1 else "vf"

    def vectors(self, name: str) -> tuple[tuple[str, int], ...]:
        """(the vector as an expression, floats before it) for each vector of the variable `name`."""
        if self.count == 1:
            return ((name, self.at),)
        return tuple((f"{name}.val[{v}]", self.at + v * self.lanes) for v in range(self.count))


@dataclass(frozen=True)
class RowTile:
    """A tile of `rows` rows: `chains` independent sums for each accumulator; A is loaded for `ahead` steps at once.

    A loop over rows of A and B does `unroll` of them an iteration.
    """

    rows: int
    chains: int
    ahead: int
    unroll: int


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
    """The loads of `vectors` neighbouring vectors, each as wide as possible."""
    starts = range(0, vectors, WIDEST_LOAD)
    return tuple(Piece(min(WIDEST_LOAD, vectors - v), v * lanes, str(v) if v else "", lanes) for v in starts)


def row_tile(rows: int, vectors: int, unroll: int, target: Target) -> RowTile:
    chains = target.chains(rows, vectors)
    return RowTile(rows, chains, target.product_ahead(rows, vectors), max(unroll, chains))


def column_panels(
    panels: tuple[Panel, ...], unroll: int, target: Target, heights: tuple[int, ...] = ()
) -> Iterator[ColumnPanels]:
    """The panels of a tile with their columns; `heights` replaces the heights of each."""
    start = 0
    for panel in panels:
        width = panel.vectors * target.lanes
        stop = start + panel.count * width
        tiles = tuple(row_tile(rows, panel.vectors, unroll, target) for rows in heights or panel.heights)
        yield ColumnPanels(start, stop, width, panel.vectors, tiles, pieces(panel.vectors, target.lanes))
        start = stop


@dataclass(frozen=True)
class LaneProductSchedule:
    """How a product whose scalars are lanes of vectors is done: product_neon.

    The first `first` steps of the inner size come before the loop, `unroll` are in an iteration of it. `near_a` and
    `near_c` neighbouring rows of A and of C share a base pointer. `stride`: bytes from a row of B to the next.
    """

    panels: tuple[ColumnPanels, ...]
    first: int
    unroll: int
    iterations: int
    near_a: int
    near_c: int
    stride: int

    def bases_a(self, rows: int) -> int:
        """Base pointers for as many rows of A."""
        return -(-rows // self.near_a)

    def bases_c(self, rows: int) -> int:
        return -(-rows // self.near_c)

    @property
    def fours(self) -> bool:
        """Whether an iteration is no multiple of eight steps, and A is loaded for four at a time in it."""
        return self.unroll % 8 != 0

    @property
    def start(self) -> str:
        """Steps of the first group: as many as A is loaded for, unless there are fewer."""
        return "ahead" if self.first >= 8 else str(self.first)

    @property
    def last(self) -> int:
        """Where the last four of the first steps are, if they are left over by groups of eight; else 0."""
        return self.first - 4 if self.first > 8 and self.first % 8 else 0


def lane_product(k: Product, target: Target) -> LaneProductSchedule:
    """The steps that do not divide come first, and there are always some."""
    unroll = k.tile.unroll
    first = k.k % unroll or unroll
    near_a, near_c = (PAIR_REACH // stride + 1 for stride in (k.lda, k.ldc))
    panels = tuple(column_panels(k.tile.panels, unroll, target))
    return LaneProductSchedule(panels, first, unroll, (k.k - first) // unroll, near_a, near_c, 4 * k.ldb)


@dataclass(frozen=True)
class Prefetch:
    """What a row tile of a panel prefetches, a cache line an iteration: the next panel, or the next block of this one.

    Tile t takes column t // `parts` of cache lines and of its rows part t % `parts`, which is `part` floats further.
    """

    parts: int
    part: int


@dataclass(frozen=True)
class ProductSchedule:
    """How a product with scalars from memory is done.

    The inner size is done in blocks of `block`: `unroll` steps an iteration, and `rest` steps after the loop. `last`
    is where the last block starts, or -1 where there is but one. A panel of B is `stride` floats to a row: as it lies,
    or transposed into scratch memory. `prefetch` belongs to the panels one by one; None: nothing is prefetched.
    """

    panels: tuple[ColumnPanels, ...]
    block: int
    last: int
    unroll: int
    iterations: int
    rest: int
    strides: tuple[int, ...]
    prefetch: tuple[Prefetch | None, ...]


def product(k: Product, target: Target) -> ProductSchedule:
    block, unroll = k.block, k.tile.unroll
    iterations, rest = divmod(block, unroll)
    panels = tuple(column_panels(k.tile.panels, unroll, target))
    if k.paired:  # two sums for each accumulator as it is
        panels = tuple(replace(p, tiles=tuple(replace(tile, chains=1) for tile in p.tiles)) for p in panels)
    prefetch: tuple[Prefetch | None, ...] = (None,) * len(panels)
    if k.streams and target.lanes > 1 and iterations > 1:
        parts = max(256 // block, 1) if k.transposed else 4
        prefetch = tuple(
            Prefetch(parts, (panel.width // parts if k.transposed else iterations) * k.ldb) for panel in panels
        )
    strides = tuple(panel.width if k.transposed else k.ldb for panel in panels)
    last = k.k - block if block < k.k else -1
    return ProductSchedule(panels, block, last, unroll, iterations, rest, strides, prefetch)


PARTS = 128  # rows of A and B whose panel of B stays in L1
LINES = 64


@dataclass(frozen=True)
class OuterSchedule:
    """How a weight gradient in register tiles is done.

    Row tiles of `rows` rows of G are the units in which threads share it: `whole` of them, then one of `short` rows
    where that is not 0. Rows of A and B are taken in parts of about `part`. `along`: row tiles are the outer loop.
    `a` is the load of a tile's numbers of A. `lines`: where the cache lines of a tile lie from its corner, for
    each of the last 64 iterations over rows; empty where nothing is prefetched. `step_...`: bytes
    from a row to the next.
    """

    panels: tuple[ColumnPanels, ...]
    rows: int
    whole: int
    short: int
    part: int
    along: bool
    a: Piece
    lines: tuple[int, ...]
    step_a: int
    step_b: int
    step_g: int

    @property
    def line_mask(self) -> int:
        return len(self.lines) - 1

    @property
    def short_at(self) -> int:
        """Where the short row tile is."""
        return self.whole * self.rows


def outer(k: Outer, target: Target) -> OuterSchedule:
    """The schedule of outer and outer_neon."""
    whole, short = divmod(k.m, k.tile.rows)
    heights = (k.tile.rows,) * (whole > 0) + (short,) * (short > 0)
    panels = tuple(column_panels(k.tile.panels, k.tile.unroll, target, heights))
    prefetches = k.streams and k.fused and target.lanes > 1
    wide = -(-panels[0].width // LINE)
    places = [row * k.ldg + line * LINE for row in range(k.tile.rows) for line in range(wide)]
    lines = tuple(places[i % len(places)] for i in range(LINES)) if prefetches else ()
    (a,) = pieces(-(-max(heights) // target.lanes), target.lanes)
    steps = (4 * stride for stride in (k.lda, k.ldb, k.ldg))
    return OuterSchedule(panels, k.tile.rows, whole, short, PARTS, k.streams, a, lines, *steps)
