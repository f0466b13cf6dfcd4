"""Calls of kernels: which memory each works on, who runs it and what must have been done before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from eegen.plan.kernels.kernel import Kernel

Barrier = Literal["", "few", "always"]
"""When all threads must have arrived before a call: never, where rows are too few to exchange sums, always."""
Space = Literal["rows", "weight", "packed", "gradient", "sum", "index"]


class Arg(NamedTuple):
    """An argument: a row buffer, a parameter, its packed copy, its gradient, the thread's sum for that, an index."""

    space: Space
    name: str


@dataclass(frozen=True)
class Call:
    """A kernel on its arguments, over rows: those of `domain` (pair, prefix; in a loop also level and below).

    Each thread does its own rows. With `once` the first thread does so many rows of a parameter. With `units` the
    result is divided, and each thread reads all rows for its part of the units, unless threads `exchange` sums over
    rows of their own; `continues`: the result holds a part of the sum already. `barrier`: all threads must have
    arrived before, always or where rows are too few to exchange sums. `result` names what is computed.
    """

    kernel: Kernel
    args: tuple[Arg, ...]
    domain: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    result: str = ""
    once: int = 0
    units: int = 0
    exchanges: bool = False
    continues: bool = False
    barrier: Barrier = ""

    @property
    def whole(self) -> bool:
        """Whether each thread reads all rows."""
        return self.units > 0

    @property
    def adds(self) -> bool:
        """Whether it adds to a gradient, or clears it for that."""
        return self.once > 0 or any(arg.space == "sum" for arg in self.args)


@dataclass(frozen=True)
class CallLoop:
    """Calls repeated for each level of the prefix tree; with `reverse` from the last level to the first.

    Threads do not wait for each other inside: each works on rows of its own.
    """

    items: tuple[Call, ...]
    reverse: bool
    barrier: Barrier = ""


Item = Call | CallLoop


def calls_of(items: Iterable[Item]) -> tuple[Call, ...]:
    """All calls, those inside loops too."""
    return tuple(call for item in items for call in (item.items if isinstance(item, CallLoop) else (item,)))
