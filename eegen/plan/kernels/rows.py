"""Row programs: a sequence of ops on each row by itself; epilogues of products are made of the same steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from eegen.plan.kernels.kernel import Access, Kernel, Param, Work, index


@dataclass(frozen=True)
class Operand:
    """Where a step reads or writes its row.

    `kind` is that of its parameter: rows, weights or gradient. `gather` names the index array that picks the row, or is
    empty: the row itself, or for a vector parameter its only row. `name` is what the C calls it.
    """

    kind: str
    ld: int
    gather: str = ""
    name: str = field(default="x", compare=False)


@dataclass(frozen=True)
class Step:
    """One step of a row program or of an epilogue: `op` on earlier steps (by number) and at most one operand.

    In an epilogue -1 stands for the accumulator, and step i makes number i.
    """

    op: str
    sources: tuple[int, ...] = ()
    operand: Operand | None = None


STEP_FLOPS = {"load": 0, "store": 0, "rms": 3, "rms_grad": 6}  # for each number of a row; 1 where it is not said


def step_params(steps: tuple[Step, ...], width: int) -> tuple[Param, ...]:
    """The parameters of a kernel whose steps have operands: p<step>, and with an index array i<step>."""
    params: list[Param] = []
    for number, step in enumerate(steps):
        where = step.operand
        if where is None:
            continue
        access: Access = {"store": "write", "accumulate": "both"}.get(step.op, "read")  # type: ignore[assignment]
        whole = where.kind == "rows" or where.gather
        params.append(Param(f"p{number}", "rows" if whole else "weights", access, where.ld if whole else width))
        if where.gather:
            params.append(index(f"i{number}"))
    return tuple(params)


@dataclass(frozen=True)
class RowProgram(Kernel):
    """Steps on each row by itself, the row held in `vectors` vectors; `width` numbers of it are real."""

    width: int
    vectors: int
    steps: tuple[Step, ...]
    title: str = field(compare=False, default="")

    template = "kernels/rows.c.j2"

    @property
    def stem(self) -> str:
        return f"rows_{self.title}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (Param("", "range"), *step_params(self.steps, self.width))

    @property
    def flops(self) -> Work:
        return Work(self.width * sum(STEP_FLOPS.get(step.op, 1) for step in self.steps))

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
