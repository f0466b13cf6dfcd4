"""The plan of a C file, as frozen records: parameters, buffers, slots, kernels, and the calls of each program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from eegen.language.formats import F32, Format
from eegen.language.graph import Part
from eegen.language.optimizers import OPTIMIZERS, Optimizer
from eegen.plan.build_config import BuildConfig
from eegen.plan.call import Call, CallLoop, Item, calls_of
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.kernels.matrix import Outer
from eegen.plan.kernels.newton_schulz import NewtonSchulz
from eegen.plan.programs import Program
from eegen.targets import Target

Lifetime = Literal["call", "cache"]
"""How long a buffer holds its rows: until its last reader in a call, or for later calls too."""


def up(n: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-n // unit) * unit


@dataclass(frozen=True)
class Parameter:
    """Where one parameter lives: `rows` x `cols` numbers, `ld` apart, at `offset`, both sides padded to vectors.

    `flipped`: the main copy (and its gradient and moments) is [in][out], not [out][in]. `packed`: offset of the packed
    copy, which is transposed, among the packed copies, or -1. `segment`: padded length of one stacked part. `fused`:
    updated where its gradient is made. `matrix`: the optimizer has a rule of its own for it.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    init: str
    rows: int
    cols: int
    ld: int
    packed_ld: int
    offset: int
    flipped: bool
    packed: int
    segment: int
    fused: bool = False
    matrix: bool = False
    format: Format = F32

    @property
    def ident(self) -> str:
        return self.name.replace(".", "_")

    @property
    def size(self) -> int:
        return self.rows * self.ld

    @property
    def count(self) -> int:
        return self.shape[0] * (self.shape[1] if len(self.shape) > 1 else 1)


class Buffer(NamedTuple):
    """A row buffer: `ld` numbers for each row of its domain, kept in `slot` while it lives."""

    name: str
    domain: str
    ld: int
    format: Format = F32
    lifetime: Lifetime = "call"
    slot: int = -1


class Slot(NamedTuple):
    """Memory that buffers of one domain, stride and format share."""

    domain: str
    ld: int
    format: Format


class Procedure(NamedTuple):
    """A list of calls, printed as one C function of a program: forward, backward."""

    name: str
    items: tuple[Item, ...]

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, those inside loops too."""
        return calls_of(self.items)


@dataclass(frozen=True)
class ProgramPlan:
    """A program's calls and the buffers that they work on.

    `sums`: where a thread adds up its part of a gradient, among its sums.
    """

    program: Program
    procedures: Mapping[str, Procedure]
    buffers: Mapping[str, Buffer]
    slots: tuple[Slot, ...]
    logits: str
    sums: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(call for procedure in self.procedures.values() for call in procedure.calls)

    @property
    def logits_slot(self) -> int:
        return self.buffers[self.logits].slot

    @property
    def logits_ld(self) -> int:
        return self.buffers[self.logits].ld

    @property
    def ancestor_lists(self) -> tuple[str, ...]:
        """The row domains whose ancestors are listed for each prefix row."""
        names = [arg.name for call in self.calls for arg in call.args if arg.name.startswith("ancestors_")]
        return tuple(sorted({name.removeprefix("ancestors_") for name in names}))


class MatrixUpdate(NamedTuple):
    """A tensor that the optimizer updates by its rule for matrices: [rows][cols] numbers as stored, padding included.

    `at`: its place among the weights. `transposed`: its columns are the longer side. `stretch` is √(out / in), at
    least 1.
    """

    name: str
    kernel: NewtonSchulz
    at: int
    rows: int
    cols: int
    ld: int
    transposed: bool
    stretch: float

    @property
    def tall(self) -> int:
        """Numbers of the longer side."""
        return self.cols if self.transposed else self.rows


@dataclass(frozen=True)
class Plan:
    """What a C file is printed from: programs that share parameters and kernels."""

    build: BuildConfig
    target: Target
    parameters: tuple[Parameter, ...]
    programs: tuple[ProgramPlan, ...]
    kernels: tuple[Kernel, ...]
    matrix_updates: tuple[MatrixUpdate, ...]
    matmul_weights: int

    def program(self, name: str) -> ProgramPlan | None:
        return next((program for program in self.programs if program.name == name), None)

    @property
    def train(self) -> ProgramPlan | None:
        return self.program("train")

    @property
    def infer(self) -> ProgramPlan | None:
        return self.program("infer")

    # --- sizes ------------------------------------------------------------------------------------

    @property
    def weights(self) -> int:
        """Numbers of one copy of all parameters, padding included."""
        return max(up(p.offset + p.size, 16) for p in self.parameters)

    @property
    def packed_size(self) -> int:
        """Numbers of all packed copies."""
        return max((up(p.packed + p.cols * p.packed_ld, 16) for p in self.parameters if p.packed >= 0), default=0)

    @property
    def sums_size(self) -> int:
        train = self.train
        return sum(up(p.size, 16) for p in self.parameters if p.ident in train.sums) if train else 0

    @property
    def count(self) -> int:
        """Trained numbers, padding not counted."""
        return sum(p.count for p in self.parameters)

    @property
    def scratch(self) -> int:
        """Numbers of scratch memory that a thread needs for the kernel that needs most."""
        return max((kernel.scratch for kernel in self.kernels), default=0)

    @property
    def has_loops(self) -> bool:
        """Whether calls are repeated level by level."""
        items = [item for program in self.programs for one in program.procedures.values() for item in one.items]
        return any(isinstance(item, CallLoop) for item in items)

    @property
    def slot_count(self) -> int:
        return max(len(program.slots) for program in self.programs)

    @property
    def work(self) -> int:
        """Numbers that the update of one matrix parameter works on."""
        return up(max((update.kernel.work(update.tall) for update in self.matrix_updates), default=0), 16)

    # --- the optimizer ------------------------------------------------------------------------------

    @property
    def optimizer(self) -> Optimizer:
        return OPTIMIZERS[self.build.optimizer]

    @property
    def moments(self) -> tuple[str, ...]:
        """What the optimizer keeps beside every weight."""
        return self.optimizer.slots

    @property
    def unfused(self) -> list[tuple[int, int]]:
        """The ranges of the weights that are updated number by number from a gradient in memory."""
        return ranges([p for p in self.parameters if not p.fused and not p.matrix])

    @property
    def elementwise(self) -> list[tuple[int, int]]:
        """Those that would be if no update were fused."""
        return ranges([p for p in self.parameters if not p.matrix])

    @property
    def unfused_packed(self) -> list[Parameter]:
        """The parameters whose packed copy the update writes."""
        return [p for p in self.parameters if p.packed >= 0 and not p.fused]

    # --- threads and work ---------------------------------------------------------------------------

    @property
    def exchange_rows(self) -> int:
        """Rows from which two threads do better to exchange sums (m x n) than rows (m / 2 + n); 0: they never do.

        Few are not worth a wait. Measured at widths of 64 to 256.
        """
        calls = self.train.calls if self.train else ()
        kernels = [call.kernel for call in calls if call.exchanges and isinstance(call.kernel, Outer)]
        return max([160, *(4 * k.m * k.n // (k.m + 2 * k.n) for k in kernels)]) if kernels else 0

    def flops(self, positions: float) -> float:
        """Model FLOPs of a step of that many positions, every one counted, shared or not."""
        return 6 * self.matmul_weights * positions

    def users(self, kernel: Kernel) -> list[str]:
        """What each call of a kernel computes, by the names of the values, each once."""
        calls = [call for program in self.programs for call in program.calls if call.kernel == kernel]
        return list(dict.fromkeys(call.result for call in calls if call.result))


def ranges(parameters: list[Parameter]) -> list[tuple[int, int]]:
    """The neighbouring parameters of a list as ranges of the weights."""
    found: list[tuple[int, int]] = []
    for p in parameters:
        end = up(p.offset + p.size, 16)
        if found and found[-1][1] == p.offset:
            found[-1] = (found[-1][0], end)
        else:
            found.append((p.offset, end))
    return found
