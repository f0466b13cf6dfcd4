"""The layout of attention in quads: four keys of a head are scored at once, and their scores share a 128-bit lane.

A group is neighbouring vectors of the width: whole heads that fill whole score vectors, [lanes / 4 heads][4 keys]. The
last group may be smaller. All offsets are in floats: of columns from the first of their group, of scores from the
first of their group in a quad.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from eegen.targets import Target

ROWS = 8  # rows done together, step by step: the steps of one row alone are one long chain of latencies
SLOPE_QUADS = 64  # quads of derivatives of scores that are kept at a time: those of at least one row of 256 keys
VALUE_PART = 8  # columns of the sum of values whose sums are in registers at once
GRADIENT_PART = 4  # the same for the derivative, where keys and values have sums, too
UNROLLED = 8  # vectors of a head whose dot product is written out; more are a loop

Weights = Literal["memory", "lane", "permute", "pair"]
"""How the weight of a key reaches the lanes of its head: a load that broadcasts it, the lane operand of an FMA, a
permutation inside each 128-bit lane, or that after every lane of the score vector has been doubled."""


class Dot(NamedTuple):
    """Products of the vectors `at`, summed in each lane, with each of four keys: a vector named `name`.

    `loop`: first, end and step of `at` where they are too many to write out.
    """

    name: str
    at: tuple[int, ...]
    loop: tuple[int, int, int] | None


@dataclass(frozen=True)
class ScoreVector:
    """Four scores of each of lanes / 4 heads, at `at`: one, two or four dots, folded. None is a dot that is zero."""

    index: int
    at: int
    dots: tuple[Dot | None, ...]


@dataclass(frozen=True)
class Column:
    """A vector of a group: number, first float, and where the weights of its heads are.

    `register`: name of the vector that holds them; `weights`: the score vector, and `half` of it, that it is a pair of;
    `weights_at`: the weights of its only head, in memory.
    """

    index: int
    at: int
    register: str
    weights: int
    half: int
    weights_at: tuple[int, ...]


class Part(NamedTuple):
    """Columns whose sums are in registers at once, and the score vectors that hold their weights."""

    columns: tuple[Column, ...]
    weights: tuple[ScoreVector, ...]


class Parts(NamedTuple):
    """The parts of a group. `step` > 0: they are alike, each inside one head; the first stands for all of them."""

    parts: tuple[Part, ...]
    step: int


@dataclass(frozen=True)
class Group:
    """`count` equal groups side by side, each of `width` columns, the first from column `start` on.

    `scores_start` and `scores_width`: the same for the floats of their scores. `name` ends their functions' names.
    """

    name: str
    count: int
    start: int
    width: int
    scores_start: int
    scores_width: int
    scores: tuple[ScoreVector, ...]
    values: Parts
    gradients: Parts

    @property
    def stop(self) -> int:
        return self.start + self.count * self.width

    @property
    def slopes_per_key(self) -> int:
        return self.scores_width // 4


class Softmax(NamedTuple):
    """Of `chains` score vectors at once: those at `offsets` in a quad, of each of `rows` rows.

    `step` > 0: a quad has more score vectors, so many floats on. `by_lane`: sums are inverted four at once, as lanes.
    """

    chains: int
    rows: int
    offsets: tuple[int, ...]
    step: int
    by_lane: bool


@dataclass(frozen=True)
class Quads:
    """Everything that the templates print of one shape on one target. `stride`: floats of the scores of a quad."""

    weights: Weights
    stride: int
    groups: tuple[Group, ...]
    softmax: Softmax
    rows: int = ROWS
    slope_quads: int = SLOPE_QUADS

    @property
    def heads(self) -> int:
        """Heads that a quad of scores has space for."""
        return self.stride // 4

    @property
    def slope_floats(self) -> int:
        return self.slope_quads * max(group.scores_width for group in self.groups)


def quads(head_dim: int, width: int, target: Target) -> Quads | None:
    """The layout for `width` columns; None where heads and vectors do not fit into each other, or words are missing."""
    lanes = target.lanes
    fits = head_dim % 4 == 0 and (head_dim % lanes == 0 or lanes % head_dim == 0)
    if not (target.quads_vocabulary and fits):
        return None
    per_score = head_dim // 4  # vectors of the width for a score vector
    vectors = width // lanes
    scores = -(-vectors // per_score)
    groups = -(-scores // min(scores, max(1, target.score_vectors // per_score)))
    size = -(-scores // groups) * per_score
    weights = _weights(head_dim, target)
    full, rest = divmod(vectors, size)
    found = []
    for name, count, first, n in (("", full, 0, size), ("_rest", 1, full * size, rest)):
        if count and n:
            columns = tuple(_column(c, head_dim, lanes, weights) for c in range(n))
            each = tuple(_score_vectors(n, head_dim, lanes))
            group = Group(
                name,
                count,
                first * lanes,
                n * lanes,
                first * lanes // head_dim * 4,
                len(each) * lanes,
                each,
                _parts(columns, each, VALUE_PART, head_dim // lanes),
                _parts(columns, each, GRADIENT_PART, head_dim // lanes),
            )
            found.append(group)
    return Quads(weights, scores * lanes, tuple(found), _softmax(scores, target))


def _weights(head_dim: int, target: Target) -> Weights:
    if target.lane_operand:
        return "lane"
    if head_dim >= target.lanes:
        return "memory"
    return "pair" if head_dim == 8 else "permute"


def _score_vectors(vectors: int, head_dim: int, lanes: int) -> Iterator[ScoreVector]:
    per_dot = max(head_dim // lanes, 1)
    dots = min(lanes, head_dim) // 4
    for index, first in enumerate(range(0, vectors, head_dim // 4)):
        found: list[Dot | None] = []
        for t in range(dots):
            c = first + t * per_dot
            at = tuple(range(c * lanes, (c + per_dot) * lanes, lanes))
            loop = (at[0], at[-1] + lanes, lanes) if per_dot > UNROLLED else None
            found.append(Dot(f"s{index}{'abcd'[t] if dots > 1 else ''}", at, loop) if c < vectors else None)
        yield ScoreVector(index, index * lanes, tuple(found))


def _column(c: int, head_dim: int, lanes: int, weights: Weights) -> Column:
    source = c // (head_dim // 4)
    head = c * lanes // head_dim
    register = f"{source}_{c % 2}" if weights == "pair" else str(source)
    return Column(c, c * lanes, register, source, c % 2, tuple(range(4 * head, 4 * head + 4)))


def _parts(columns: tuple[Column, ...], scores: tuple[ScoreVector, ...], size: int, head_vectors: int) -> Parts:
    """Alike, and so a loop, where there are more than two of them and each is inside one head."""
    parts = []
    for first in range(0, len(columns), size):
        part = columns[first : first + size]
        parts.append(Part(part, scores[part[0].weights : part[-1].weights + 1]))
    loops = len(columns) > 2 * size and max(head_vectors, 1) % size == 0
    return Parts(tuple(parts[:1]), size * columns[1].at) if loops else Parts(tuple(parts), 0)


def _softmax(scores: int, target: Target) -> Softmax:
    """Chains of several rows where one has too few score vectors, or a number that the chains do not divide."""
    chains = 4 if target.registers >= 32 else 2
    abreast = next(n for n in (chains, 2, 1) if n <= chains and scores % n == 0)
    offsets = tuple(range(0, abreast * target.lanes, target.lanes))
    step = abreast * target.lanes if scores > abreast else 0
    return Softmax(chains, chains // abreast, offsets, step, target.lane_operand and chains == 4)
