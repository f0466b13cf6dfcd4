"""Register tiles: how the columns of a result are divided into panels of vectors, and rows into heights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

Cost = Callable[[int, int], float]
"""(rows, vectors) of a tile -> cost of an FMA; infinite where the tile is impossible."""

Choice = tuple[int, int, int]
"""Rows, vectors and unroll factor: what a tile is when it is measured, not modelled."""

OTHER_WIDTH = 1.1  # relative cost of a column in a panel of another width, which is more code for less use


@dataclass(frozen=True)
class Panel:
    """`count` neighbouring column panels, each `vectors` registers wide, and the row counts written out for them.

    Rows are covered by the first height as long as it fits, then by the next; the last height is 1 (unless the
    caller's rows are a known multiple of it).
    """

    count: int
    vectors: int
    heights: tuple[int, ...]


class Tile(NamedTuple):
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


def falling_heights(rows: int) -> tuple[int, ...]:
    """`rows` and lower ones down to 1, each about half: any row count that is left is a few tiles, of little code."""
    return (1,) if rows == 1 else (rows, *falling_heights(rows - max(1, rows // 2)))


def cover(vectors: int, heights: Sequence[int], cost: Cost) -> tuple[Panel, ...]:
    """The cheapest way to cover `vectors` columns: panels of one width and a narrower rest, each at its best height.

    Where a single vector would be left, it shares with the last wide panel: 16 vectors are 4 x 3 and 2 x 2.
    """
    best = {w: min((cost(rows, w), rows) for rows in heights) for w in range(1, min(vectors, 16) + 1)}

    def total(cover: list[tuple[int, int]]) -> float:
        costs = [count * width * best[width][0] for count, width in cover]
        return costs[0] + OTHER_WIDTH * sum(costs[1:])

    covers = []
    for wide in best:
        full, rest = divmod(vectors, wide)
        covers.append([(full, wide)] + ([(1, rest)] if rest else []))
        if rest == 1 and wide % 2 and wide > 1 and full > 1:
            covers.append([(full - 1, wide), (2, (wide + 1) // 2)])
    return tuple(Panel(count, width, (best[width][1],)) for count, width in min(covers, key=total))


def promising(vectors: int, heights: Sequence[int], cost: Cost, unrolls: Sequence[int]) -> list[Choice]:
    """Per width the cheapest heights, up to twice the cost of the best; other unroll factors rank a little lower."""
    found = []
    for wide in range(1, min(vectors, 16) + 1):
        costs = sorted((cost(rows, wide), rows) for rows in heights)
        for each, rows in costs[:3]:
            full, rest = divmod(vectors, wide)
            last = min(cost(r, rest) for r in heights) * OTHER_WIDTH if rest else 0
            total = full * wide * each + rest * last if rest else full * wide * each
            found += [(total * (1 + 0.04 * i), (rows, wide, u)) for i, u in enumerate(unrolls) if u]
    cheapest = min(found)[0]
    return [choice for total, choice in sorted(found) if total < min(2 * cheapest, inf)]
