"""Softmax cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from eegen.plan.kernels.kernel import Kernel, Param, Work

BLOCK = 32  # rows that a step is done for before the next
ABREAST = 4  # of them at once: the steps of one row wait for each other


class Columns(NamedTuple):
    """The vectors of a row: those of the first `whole` columns, a loop, and the last ones, each (column, limit).

    `real`: for each column from `whole` on, whether it is of the vocabulary: its limit. `limit` counts from there.
    """

    whole: int
    last: tuple[tuple[int, int], ...]
    real: tuple[bool, ...]

    @property
    def limited(self) -> bool:
        return not all(self.real)


@dataclass(frozen=True)
class Loss(Kernel):
    """Softmax cross-entropy over `vocab` of `ld` columns: logits become their gradient in place."""

    vocab: int
    ld: int

    block = BLOCK
    abreast = ABREAST

    template = "kernels/loss.c.j2"
    returns = "double"

    @property
    def stem(self) -> str:
        return f"cross_entropy_{self.vocab}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("s", "state"),
            Param("logits", "rows", "both", self.ld),
            Param("all", "span"),
            Param("positions", "positions"),
        )

    @property
    def flops(self) -> Work:
        return Work(6 * self.vocab)

    @property
    def shape(self) -> str:
        return f"[rows][{self.vocab}]"

    @property
    def about(self) -> str:
        return f"Softmax, cross-entropy and its gradient in place: {self.shape}. {self.flops.row} FLOPs a row."

    def columns(self, lanes: int) -> Columns:
        whole = (self.vocab - 1) // lanes * lanes
        real = tuple(column < self.vocab for column in range(whole, self.ld))
        return Columns(whole, tuple((c, c - whole) for c in range(whole, self.ld, lanes)), real)
