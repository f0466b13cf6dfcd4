"""The arena's header as typed values: what a session is set to and what it has counted.

No other module of run/, and none after it, refers to a field of the header by its name.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

import numpy as np

from eegen.emit import arena
from eegen.language.optimizers import NUMBERS
from eegen.plan.records import Plan, ProgramPlan

Array = np.ndarray
Buffer = mmap.mmap | memoryview

PHASES = ("batch", "forward", "backward", "update")
"""The parts of a training step whose clock ticks are counted."""


# Named tuples and not data classes, which take a millisecond each to define at every start.


class StepSettings(NamedTuple):
    """The optimizer's numbers in a training step, apart from the learning rate. `clip` 0 means no clipping."""

    beta1: float = NUMBERS["beta1"]
    beta2: float = NUMBERS["beta2"]
    eps: float = NUMBERS["eps"]
    momentum: float = NUMBERS["momentum"]
    weight_decay: float = NUMBERS["weight_decay"]
    clip: float = NUMBERS["clip"]


class Counters(NamedTuple):
    """What later steps depend on besides weights and optimizer state."""

    step: int  # optimizer steps done
    rng: int  # state of the random stream
    cursor: int  # next document in file order


class Rows(NamedTuple):
    """How many rows of each domain a batch has."""

    positions: int
    prefix: int
    pair: int


class Totals(NamedTuple):
    """Sums over all training steps of a session: rows, and clock ticks of each phase and each profiled kernel."""

    rows: Rows
    phases: Array  # [len(PHASES)] uint64
    kernels: Array  # [kernels of the plan] uint64


class _Integer:
    """A field of the header as an attribute."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, header: Header, owner: type) -> int:
        return int(header.fields[self.name])

    def __set__(self, header: Header, value: int) -> None:
        header.fields[self.name] = value


class Header:
    """A header, in memory of its own until `attach` puts it at the start of an arena."""

    documents = _Integer()
    positions = _Integer()
    nodes = _Integer()
    batch = _Integer()
    longest = _Integer()
    chunk = _Integer()
    threads = _Integer()
    sharing = _Integer()
    random = _Integer()
    row_capacity = _Integer()

    def __init__(self, plan: Plan, program: ProgramPlan) -> None:
        self.layout_entry = program.program.entries[0].name
        self.dtype = arena.header_dtype(plan.slot_count, len(plan.kernels))
        self.nbytes = -(-self.dtype.itemsize // 64) * 64
        self.memory: Array = np.zeros(self.nbytes, np.uint8)
        self.fields = self.memory[: self.dtype.itemsize].view(self.dtype)[0]
        self.settings = StepSettings()
        self.temperature = 1.0

    def attach(self, memory: Buffer) -> None:
        """From now on, the header at the start of `memory`."""
        self.memory = np.frombuffer(memory, np.uint8, self.nbytes)
        self.fields = self.memory[: self.dtype.itemsize].view(self.dtype)[0]

    @property
    def settings(self) -> StepSettings:
        return StepSettings(*(float(self.fields[name]) for name in StepSettings._fields))

    @settings.setter
    def settings(self, settings: StepSettings) -> None:
        for name, value in settings._asdict().items():
            self.fields[name] = value

    @property
    def temperature(self) -> float:
        return float(self.fields["temperature"])

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        self.fields["temperature"] = temperature

    @property
    def counters(self) -> Counters:
        return Counters(*(int(self.fields[name]) for name in Counters._fields))

    @counters.setter
    def counters(self, counters: Counters) -> None:
        for name, value in counters._asdict().items():
            self.fields[name] = value

    def set_yield(self, address: int) -> None:
        """The address of a function that waiting threads call to give up the processor."""
        self.fields["yield"] = address

    @property
    def rows(self) -> Rows:
        """Of the last batch."""
        return Rows(int(self.fields["count"]), int(self.fields["rows"]), int(self.fields["pairs"]))

    @property
    def totals(self) -> Totals:
        totals = (int(self.fields[name]) for name in ("total_count", "total_rows", "total_pairs"))
        return Totals(Rows(*totals), self.fields["ticks"].copy(), np.atleast_1d(self.fields["kernel_ticks"]).copy())

    def offset(self, name: str) -> int:
        """Where an array of the arena begins, in bytes."""
        return int(self.fields[f"at_{name}"])

    def slot_offset(self, slot: int) -> int:
        """Where a slot of row buffers begins, in bytes."""
        return int(np.atleast_1d(self.fields["at_slot"])[slot])
