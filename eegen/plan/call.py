"""Calls of kernels: which memory each works on, who runs it and what must have been done before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegen.plan.kernels.kernel import Kernel

Space = Literal["rows", "weight", "packed", "gradient", "sum", "index"]


@dataclass(frozen=True)
class Arg:
    """An argument: a row buffer, a parameter, its packed copy, its gradient, the thread's sum for that, an index."""

    space: Space
    name: str


@dataclass(frozen=True)
class Call:
    """A kernel on its arguments, over the rows of `domain` (pair, prefix) or a number of rows of a parameter.

    Each thread does its own rows; with `serial` the first thread does all. With `units` the result is divided, and
    each thread reads all rows for its part of the units, unless threads `exchange` sums over rows of their own.
    `barrier`: all threads must have arrived before, always or where rows are too few to exchange sums.
    """

    kernel: Kernel
    args: tuple[Arg, ...]
    domain: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    serial: bool = False
    units: int = 0
    exchanges: bool = False
    barrier: Literal["", "few", "always"] = ""

    @property
    def whole(self) -> bool:
        """Whether each thread reads all rows."""
        return self.units > 0

    @property
    def adds(self) -> bool:
        """Whether it adds to a gradient, or clears it for that."""
        return self.serial or any(arg.space == "sum" for arg in self.args)
