"""What a kernel is: a frozen record that owns the signature of its C function.

The prototype, every call, the bytes it moves, its FLOPs and its rows in `inspect` and `bench --profile` derive from the
one ordered list of typed parameters that a kernel returns as `params`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from eegen.language.formats import F32, I32, Format

# What a parameter stands for. The first group is bound to the arguments of a call, one after the other; the second is
# bound by the place of the call: which rows, which thread, which step.
Kind = Literal[
    "rows",  # a matrix [rows][stride]
    "keys",  # a matrix [rows][keys][stride]: an entry for each ancestor of a row
    "weights",  # a parameter of the model, or its packed copy
    "gradient",  # the gradient of a parameter
    "index",  # one number for each row
    "range",  # the rows, or the units of the result, to do: two numbers, lo and hi
    "count",  # how many rows there are in all
    "span",  # the rows to do
    "positions",  # the positions of the batch at those rows
    "thread",  # the number of the thread
    "levels",  # the levels of the prefix tree to do
    "state",  # the header of the arena
    "capacity",  # entries of a row in the lists of ancestors
    "scratch",  # memory of the thread's own
    "partial",  # whether the result already holds a part of the sum
    "constants",  # the optimizer's numbers of this step
    "updated",  # the parameter that belongs to the gradient before it, to be updated in place
    "packed",  # its packed copy, to be written
    "moment",  # and its optimizer state
]
BOUND = ("rows", "keys", "weights", "gradient", "index")
Access = Literal["read", "write", "both"]


class Param(NamedTuple):
    """A parameter of a kernel's C function.

    `stride` is how many numbers lie from one row to the next (`rows`, `keys`), or how many there are in all.
    """

    name: str
    kind: Kind
    access: Access = "read"
    stride: int = 0
    format: Format = F32

    @property
    def bytes(self) -> int:
        """Moved for each row (`rows`, `index`), for each key (`keys`), or once (the others)."""
        return self.format.bytes * self.stride * (2 if self.access == "both" else 1)


def index(name: str) -> Param:
    return Param(name, "index", stride=1, format=I32)


class Work(NamedTuple):
    """FLOPs and bytes of a call, in parts that grow with its rows, with its keys, and not at all."""

    row: int = 0
    key: int = 0
    once: int = 0

    def text(self, unit: str) -> str:
        """In words: "512 bytes a row, 16 a key and 4,096 more"."""
        parts = [(self.row, "a row"), (self.key, "a key"), (self.once, "more" if self.row or self.key else "in all")]
        named = [f"{amount:,} {place}" for amount, place in parts if amount]
        return " and ".join(named).replace(" ", f" {unit} ", 1) + "." if named else ""

    def of(self, rows: float, keys: float = 1.0) -> float:
        """The sum, for a number of rows and a mean number of keys of a row."""
        return self.once + rows * (self.row + keys * self.key)


@dataclass(frozen=True)
class Kernel:
    """What every kernel has. Two equal kernels are one function, printed once.

    `name` is unique in a plan; it comes from `stem`, which says what the kernel does and for which shape.
    """

    name: str = field(default="", compare=False, kw_only=True)

    template = ""  # prints the body
    restrict = False  # no two of its pointers meet
    returns = "void"  # the C type

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    @property
    def stem(self) -> str:
        raise NotImplementedError

    @property
    def shape(self) -> str:
        raise NotImplementedError

    @property
    def tiling(self) -> str:
        """The register tile in words, of a kernel that has one."""
        return ""

    @property
    def about(self) -> str:
        """One sentence for the comment above the function."""
        raise NotImplementedError

    @property
    def params(self) -> tuple[Param, ...]:
        raise NotImplementedError

    @property
    def flops(self) -> Work:
        return Work()

    @property
    def bytes(self) -> Work:
        """Every operand once."""
        parts = {"rows": 0, "index": 0, "keys": 0, "once": 0}
        for param in self.params:
            parts[param.kind if param.kind in parts else "once"] += param.bytes
        return Work(parts["rows"] + parts["index"], parts["keys"], parts["once"])

    @property
    def parts(self) -> tuple[Kernel, ...]:
        """The kernels that this one calls."""
        return ()

    @property
    def scratch(self) -> int:
        """Numbers of scratch memory that a thread needs to run it."""
        return 0
