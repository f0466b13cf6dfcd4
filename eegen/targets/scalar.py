"""Portable C: every vector is one float, for any compiler and machine."""

from __future__ import annotations

from math import inf

from eegen.targets.base import Target

MOST_ROWS, MOST_VECTORS = 2, 16


class Scalar(Target):
    """Registers are allocated by the compiler, so the tile is fixed and any row of it as cheap as another."""

    @property
    def peak_chains(self) -> int:
        return 48  # floats, from which the compiler makes vectors

    def cycles(self, rows: int, vectors: int) -> float:
        return 1 / vectors if rows <= MOST_ROWS and vectors <= MOST_VECTORS else inf


TARGET = Scalar(name="scalar", vocabulary="scalar", lanes=1, registers=16, fused=False, body_fmas=64)
