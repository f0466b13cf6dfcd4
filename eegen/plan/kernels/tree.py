"""Kernels along the prefix tree."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.plan.kernels.kernel import Access, Kernel, Param, Work, index

ACCESS: dict[bool, tuple[Access, Access]] = {True: ("both", "read"), False: ("read", "write")}


@dataclass(frozen=True)
class ParentRows(Kernel):
    """The row of each prefix's parent, zeros at the root; `width` numbers of it."""

    ld: int
    out_ld: int
    width: int

    template = "kernels/parent_rows.c.j2"

    @property
    def stem(self) -> str:
        return f"parent_rows_{self.width}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("state", "rows", "read", self.ld),
            index("parent"),
            Param("previous", "rows", "write", self.out_ld),
            Param("", "range"),
        )

    @property
    def shape(self) -> str:
        return f"[rows][{self.width}]"

    @property
    def about(self) -> str:
        return f"The row of each prefix's parent, zeros at the root: {self.shape}."


@dataclass(frozen=True)
class Context(Kernel):
    """Rows of a table for the last `length` tokens of each prefix, side by side, or the sum back into the table.

    `width` and `ld` are those of the table, `out_ld` is the stride of the result.
    """

    length: int
    width: int
    ld: int
    out_ld: int
    backward: bool

    template = "kernels/context.c.j2"

    @property
    def stem(self) -> str:
        return f"context{'_grad' if self.backward else ''}_{self.length}x{self.width}"

    @property
    def params(self) -> tuple[Param, ...]:
        table, out = ACCESS[self.backward]
        return (
            Param("s", "state"),
            Param("table", "weights", table, self.length * self.ld),
            Param("out", "rows", out, self.out_ld),
            Param("", "range"),
        )

    @property
    def padding(self) -> int:
        """Numbers of a row past the last token's, which are cleared."""
        return 0 if self.backward else self.out_ld - self.length * self.width

    @property
    def flops(self) -> Work:
        return Work(self.length * self.width if self.backward else 0)

    @property
    def shape(self) -> str:
        return f"[rows][{self.length}][{self.width}]"

    @property
    def about(self) -> str:
        if self.backward:
            return f"Each row's gradient added to the table's rows of its last {self.length} tokens: {self.shape}."
        return f"The table's rows of the last {self.length} tokens of each prefix, the oldest first: {self.shape}."
