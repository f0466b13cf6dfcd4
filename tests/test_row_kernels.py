"""The row kernels alone against NumPy: every op on rows, gathers and sums, odd widths, any part of the rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_alone import Alone, program_fixture, target_of
from machines import EACH_TARGET, Machine, parameters

import eegen.language.ops  # noqa: F401 (defines them)
from eegen.language.graph import OPS
from eegen.language.rows import batch_rows
from eegen.plan.kernels.rows import Operand, RowProgram, Step, Zero
from eegen.targets import Target

COVERS = ("rows", "zero")

ON_ROWS = sorted(name for name, op in OPS.items() if op.expression)
OF_A_RESULT = ("relu_grad", "relu2_grad")  # their second operand is a result of relu
WIDTHS = [1, 17, 64]
ROWS = 11
TABLE = 7  # rows of a table
AT_ONCE = 40  # kernels in one process
RANGES = [(0, 0), (3, 4), (2, 9), (0, ROWS)]
NO_ROWS = batch_rows([], 0, 1)  # meanings of these ops do not read the rows of the batch
MACHINES = parameters(EACH_TARGET)

load, store, accumulate = "load", "store", "accumulate"


def move(op: str, operand: Operand, *sources: int) -> Step:
    return Step(op, sources, operand)


def compute(op: str, *sources: int) -> Step:
    return Step(op, sources, None, OPS[op].expression, OPS[op].flops)


def padded(width: int, target: Target) -> int:
    unit = max(target.lanes, 4)
    return -(-width // unit) * unit


def rows_of(name: str, ld: int, gather: str = "") -> Operand:
    return Operand("rows", ld, gather, name)


def ops(width: int, target: Target) -> Iterator[RowProgram]:
    """Each op on operands that are loaded, its result stored; the second operand of bias and gain is a parameter."""
    ld = padded(width, target)
    for name in ON_ROWS:
        expression = OPS[name].expression
        assert expression is not None
        two = "b" in re.findall(r"\w+", expression.value)
        second = Operand("weights", ld, "", "b") if name in ("bias", "gain") else rows_of("b", ld + 8)
        loads = [move(load, operand) for operand in (rows_of("a", ld + 4), second)[: 1 + two]]
        steps = (*loads, compute(name, *range(len(loads))), move(store, rows_of("y", ld + 12), len(loads)))
        yield RowProgram(width, ld // target.lanes, steps, f"{name}_{width}")


def moves(width: int, target: Target) -> Iterator[RowProgram]:
    """What moves rows: from a table by an index and back, from rows by an index and back, into one row."""
    ld = padded(width, target)
    x = move(load, rows_of("x", ld + 4))
    gradient = Operand("gradient", ld + 8, "token", "table")
    programs = {
        "lookup": (move(load, Operand("weights", ld + 8, "token", "table")), move(store, rows_of("y", ld), 0)),
        "lookup_grad": (x, move(accumulate, gradient, 0)),
        "column_sum": (x, move(accumulate, Operand("gradient", ld, "", "b"), 0)),
        "spread": (move(load, rows_of("x", ld + 4, "token")), move(store, rows_of("y", ld), 0)),
        "collect": (x, move(accumulate, rows_of("y", ld, "token"), 0)),
        "add_to": (x, move(accumulate, rows_of("y", ld + 4), 0)),
        "several": (
            move(load, Operand("weights", ld + 8, "token", "table")),
            move(load, Operand("weights", ld + 8, "place", "table")),
            compute("add", 0, 1),
            compute("rms", 2),
            move(store, rows_of("y", ld), 3),
            x,
            compute("mul", 3, 5),
            compute("tanh", 6),
            move(accumulate, rows_of("z", ld + 4, "token"), 7),
            compute("rms_grad", 7, 3),
            move(store, rows_of("u", ld), 9),
            move(accumulate, Operand("gradient", ld, "", "b"), 9),
        ),
    }
    for name, steps in programs.items():
        yield RowProgram(width, ld // target.lanes, steps, f"{name}_{width}")


def kernels_of(target: Target) -> list[RowProgram | Zero]:
    """The programs of each width, a row at a time and, those with sums and the narrow ones, four abreast; what clears
    rows.
    """
    found: list[RowProgram | Zero] = []
    for width in WIDTHS:
        for kernel in (*ops(width, target), *moves(width, target)):
            found.append(kernel)
            if width < 20 or any(step.expression and step.expression.sums for step in kernel.steps):
                found.append(replace(kernel, abreast=True, name=f"{kernel.stem}_abreast"))
        found.append(Zero(padded(width, target)))
    return [replace(kernel, name=kernel.name or kernel.stem) for kernel in dict.fromkeys(found)]


@dataclass
class Case:
    """A row program, its operands by name, and the indices that pick their rows."""

    kernel: RowProgram
    arrays: dict[str, np.ndarray]
    indices: dict[str, np.ndarray]

    def row(self, operand: Operand, r: int) -> int:
        """The row of an operand at row r."""
        return int(self.indices[operand.gather][r]) if operand.gather else r if operand.kind == "rows" else 0

    def expected(self, lo: int, hi: int) -> dict[str, np.ndarray]:
        """The operands after the program, in float64; a row after the other."""
        after = {name: array.astype(np.float64) for name, array in self.arrays.items()}
        for r in range(lo, hi):
            made: list[np.ndarray] = []
            for name, step in zip(self.kernel.operand_names, self.kernel.steps, strict=True):
                sources = [made[source] for source in step.sources]
                if step.operand is None:
                    made.append(OPS[step.op].meaning(NO_ROWS, *(source[None] for source in sources))[0])
                    continue
                place = after[name][self.row(step.operand, r), : self.kernel.width]
                made.append(place.copy())
                if step.op != load:
                    place[:] = sources[0] + (place if step.op == accumulate else 0)
        return after


def make_case(kernel: RowProgram) -> Case:
    """Random operands, zero past the width of a row."""
    rng = np.random.default_rng(kernel.width + len(kernel.steps))
    arrays: dict[str, np.ndarray] = {}
    for name, step in zip(kernel.operand_names, kernel.steps, strict=True):
        if step.operand is None:
            continue
        rows = TABLE if step.operand.gather else ROWS if step.operand.kind == "rows" else 1
        arrays[name] = np.zeros((rows, step.operand.ld), np.float32)
        arrays[name][:, : kernel.width] = rng.normal(size=(rows, kernel.width))
        if name == "b_in" and kernel.steps[2].op in OF_A_RESULT:
            np.maximum(arrays[name], 0, out=arrays[name])
    used = {step.operand.gather for step in kernel.steps if step.operand}
    names = [name for name in used if name]
    indices = {name: rng.integers(0, TABLE, ROWS).astype(np.int32) for name in sorted(names)}
    return Case(kernel, arrays, indices)


@program_fixture
def program(machine: Machine, folder: Path) -> Alone:
    return Alone(machine, kernels_of(target_of(machine)), folder, "#define RMS_EPS 1e-5f")


def check(kernel: RowProgram, found: Case, lo: int, hi: int, lanes: int) -> None:
    """A call's operands against NumPy. The padding of a row may be written, what lies past its vectors may not."""
    case = make_case(kernel)
    for name, array in case.expected(lo, hi).items():
        about = f"{kernel.name}, {name}, rows {lo} to {hi}"
        real = np.s_[:, : kernel.width]
        np.testing.assert_allclose(found.arrays[name][real], array[real], rtol=3e-6, atol=3e-6, err_msg=about)
        past = np.s_[:, kernel.vectors * lanes :]
        assert np.array_equal(found.arrays[name][past], case.arrays[name][past]), about
    for name, index in case.indices.items():
        assert np.array_equal(found.indices[name], index)


@pytest.mark.parametrize("machine", MACHINES)
def test_row_programs_equal_numpy(machine: Machine, program: Any) -> None:
    alone = program(machine)
    kernels = [kernel for kernel in alone.kernels if isinstance(kernel, RowProgram)]
    for some in (kernels[i : i + AT_ONCE] for i in range(0, len(kernels), AT_ONCE)):
        calls = [(kernel, make_case(kernel), lo, hi) for kernel in some for lo, hi in RANGES]
        for kernel, case, lo, hi in calls:
            alone.queue(kernel, **case.arrays, **case.indices, lo=lo, hi=hi)
        alone.run()
        for kernel, case, lo, hi in calls:
            check(kernel, case, lo, hi, alone.target.lanes)


@pytest.mark.parametrize("machine", MACHINES)
def test_zero_clears_its_rows_alone(machine: Machine, program: Any) -> None:
    alone = program(machine)
    for kernel in alone.kernels:
        if isinstance(kernel, Zero):
            for lo, hi in RANGES:
                rows = np.full((ROWS, kernel.ld), 7, np.float32)
                alone.call(kernel, p=rows, lo=lo, hi=hi)
                assert (rows[lo:hi] == 0).all() and (rows[:lo] == 7).all() and (rows[hi:] == 7).all(), kernel.name
