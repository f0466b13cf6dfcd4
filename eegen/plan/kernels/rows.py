"""Row programs: a sequence of ops on each row by itself; epilogues of products are made of the same steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eegen.language.formats import F32, Format
from eegen.language.graph import Expression
from eegen.plan.kernels.kernel import Access, Kernel, Param, Work, index


@dataclass(frozen=True)
class Operand:
    """Where a step reads or writes its row.

    `kind` is that of its parameter: rows, weights or gradient. `gather` names the index array that picks the row, or is
    empty: the row itself, or for a vector parameter its only row. `name` is what the C calls it.
    """

    kind: Literal["rows", "weights", "gradient"]
    ld: int
    gather: str = ""
    name: str = field(default="x", compare=False)
    format: Format = F32


@dataclass(frozen=True)
class Step:
    """One step of a row program or of an epilogue: an op on earlier steps (by number) and at most one operand.

    Step i makes number i. In an epilogue ACCUMULATOR is the sum of the product and OPERAND the step's own operand.
    `load`, `store` and `accumulate` move an operand; other ops have the expression of their record in the language.
    """

    op: str
    sources: tuple[int, ...] = ()
    operand: Operand | None = None
    expression: Expression | None = None
    flops: int = 0  # for each number of a row

    @property
    def access(self) -> Access:
        """How it uses its operand."""
        return ACCESS.get(self.op, "read")


ACCUMULATOR, OPERAND = -1, -2
ACCESS: dict[str, Access] = {"store": "write", "accumulate": "both"}
SUFFIX = {"read": "in", "write": "out", "both": "sum"}


def operand_names(steps: tuple[Step, ...]) -> tuple[str, ...]:
    """What the C calls the operand of each step, an empty string where there is none."""
    names: list[str] = []
    for step in steps:
        name = stem = f"{step.operand.name}_{SUFFIX[step.access]}" if step.operand else ""
        number = 1
        while name and name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return tuple(names)


def step_params(steps: tuple[Step, ...], width: int) -> tuple[Param, ...]:
    """The parameters of a kernel whose steps have operands, each index array once."""
    params: list[Param] = []
    for name, step in zip(operand_names(steps), steps, strict=True):
        where = step.operand
        if where is None:
            continue
        whole = where.kind == "rows" or where.gather
        params.append(
            Param(name, "rows" if whole else "weights", step.access, where.ld if whole else width, where.format)
        )
        if where.gather and index(where.gather) not in params:
            params.append(index(where.gather))
    return tuple(params)


@dataclass(frozen=True)
class RowProgram(Kernel):
    """Steps on each row by itself, the row held in `vectors` vectors; `width` numbers of it are real."""

    width: int
    vectors: int
    steps: tuple[Step, ...]
    title: str = field(compare=False, default="")
    abreast: bool = False  # four rows at once, so that their sums and roots are one

    template = "kernels/rows.c.j2"

    @property
    def stem(self) -> str:
        return f"rows_{self.title}"

    @property
    def operand_names(self) -> tuple[str, ...]:
        return operand_names(self.steps)

    def source_names(self, number: int) -> list[str]:
        """What the C calls the results that a step reads."""
        return [f"t{source}" for source in self.steps[number].sources]

    @property
    def params(self) -> tuple[Param, ...]:
        return (Param("", "range"), *step_params(self.steps, self.width))

    @property
    def flops(self) -> Work:
        return Work(self.width * sum(step.flops for step in self.steps))

    @property
    def shape(self) -> str:
        return f"[rows][{self.width}]"

    @property
    def about(self) -> str:
        steps = ", ".join(s.op for s in self.steps if s.op != "load")
        return f"Each row by itself, {self.shape}: {steps}. {self.flops.row} FLOPs a row."


@dataclass(frozen=True)
class Zero(Kernel):
    """Clears rows of `ld` numbers."""

    ld: int

    template = "kernels/zero.c.j2"

    @property
    def stem(self) -> str:
        return f"clear_{self.ld}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (Param("p", "rows", "write", self.ld), Param("", "range"))

    @property
    def shape(self) -> str:
        return f"[rows][{self.ld}]"

    @property
    def about(self) -> str:
        return f"Zeros: {self.shape}."
