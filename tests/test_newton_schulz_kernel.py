"""Newton-Schulz iterations alone against NumPy, and the loop that measures the peak: on every target, odd shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_alone import Alone, program_fixture, target_of
from machines import EACH_TARGET, Machine, parameters

from eegen.language.optimizers import orthogonal
from eegen.plan.kernels.kernel import Kernel, Param
from eegen.plan.kernels.newton_schulz import NewtonSchulz
from eegen.plan.lowering.builder import KernelTable
from eegen.plan.muon import newton_schulz

COVERS = ("newton_schulz", "peak")

SIDES = [1, 3, 17, 48, 130]
MACHINES = parameters(EACH_TARGET)


@dataclass(frozen=True)
class Peak(Kernel):
    """The loop that measures the peak, as a kernel of a number of iterations."""

    template = "kernels/peak.c.j2"
    returns = "float"

    @property
    def stem(self) -> str:
        return "peak_loop"

    @property
    def params(self) -> tuple[Param, ...]:
        return (Param("iterations", "count"),)


@program_fixture
def program(machine: Machine, folder: Path) -> Alone:
    target, table = target_of(machine), KernelTable()
    unit = max(target.lanes, 4)
    for side in SIDES:
        for tall in (False, True):
            newton_schulz(side, -(-side // unit) * unit, tall, target, table)
    return Alone(machine, [*table.all, Peak()], folder)


def orthogonalized(alone: Alone, kernel: NewtonSchulz, x: np.ndarray) -> np.ndarray:
    """What the kernel makes of x [rows][side]."""
    rows = -(-len(x) // 4) * 4
    given = np.zeros((rows + kernel.slack_rows, kernel.ld), np.float32)
    given[: len(x), : kernel.side] = x
    other = np.zeros_like(given)
    work = np.zeros(4 * (kernel.padded + kernel.slack_rows) * kernel.ld, np.float32)
    panel = np.zeros(max(kernel.times.scratch, 1), np.float32)
    alone.call(kernel, x=given, y=other, work=work, thread=0, rows=rows, panel=panel)
    in_other = kernel.tall or kernel.iterations % 2
    return (other if in_other else given)[: len(x), : kernel.side].astype(np.float64)


@pytest.mark.parametrize("machine", MACHINES)
def test_newton_schulz_equals_numpy(machine: Machine, program: Any) -> None:
    alone, rng = program(machine), np.random.default_rng(8)
    for kernel in alone.kernels:
        if not isinstance(kernel, NewtonSchulz):
            continue
        for rows in (kernel.side, kernel.side + 1, 2 * kernel.side + 3, 5 * kernel.side):
            x = rng.normal(size=(rows, kernel.side))
            x /= np.linalg.norm(x) + 1e-7
            # On the square of X alone the iterations lose more digits.
            within = 2e-3 if kernel.tall else 1e-4
            found = orthogonalized(alone, kernel, x)
            about = f"{kernel.name}, {rows} rows"
            np.testing.assert_allclose(found, orthogonal(x), rtol=0, atol=within, err_msg=about)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_peak_loop_does_its_multiplications(machine: Machine, program: Any) -> None:
    """The sum of its chains after some iterations of c <- 0.999 c + 0.001."""
    alone = program(machine)
    kernel = next(kernel for kernel in alone.kernels if isinstance(kernel, Peak))
    first = np.arange(alone.target.peak_chains) + (alone.target.lanes > 1)
    for iterations in (0, 1, 2, 700):
        chains = 1 + (0.001 * first - 1) * 0.999**iterations
        expected = alone.target.lanes * chains.sum()
        assert alone.call(kernel, iterations=iterations) == pytest.approx(expected, rel=1e-4), iterations
