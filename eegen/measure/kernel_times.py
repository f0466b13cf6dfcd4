"""What a profile says of each kernel: its time in a step, and the work of all its calls."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.measure.steps import Steps
from eegen.plan.call import Call


@dataclass(frozen=True)
class KernelTime:
    """A kernel's part of a step. `bytes` is what it has to move at least: every operand once a call."""

    name: str
    shape: str
    us: float
    flops: float  # a step; 0 where they are not counted
    bytes: float  # a step
    peak_gflops: float

    @property
    def gflops(self) -> float:
        return self.flops / self.us * 1e-3 if self.us else 0.0

    @property
    def fraction_of_peak(self) -> float:
        return self.gflops / self.peak_gflops


def kernel_times(steps: Steps, peak_gflops: float) -> tuple[KernelTime, ...]:
    """Every kernel that ran, the slowest first."""
    plan = steps.plan
    rows = {"prefix": steps.mean("prefix"), "pair": steps.mean("pair")}
    keys = steps.mean("keys")
    calls = plan.train.calls if plan.train else ()
    update = [call for matrix in plan.matrix_updates for call in matrix.kernel.calls(matrix.tall)]
    found = []
    for kernel, us in zip(plan.kernels, steps.kernels_us.tolist(), strict=True):
        own = [call for call in calls if call.kernel == kernel]
        own_update = [n for called, n in update if called == kernel]
        if not own and not us:
            continue
        flops = sum(call_flops(call, rows, keys) for call in own) + sum(kernel.flops.of(n) for n in own_update)
        moved = sum(call_bytes(call, rows, keys) for call in own) + sum(kernel.bytes.of(n) for n in own_update)
        found.append(KernelTime(kernel.name, kernel.shape, us, flops, moved, peak_gflops))
    return tuple(sorted(found, key=lambda k: -k.us))


def rows_of(call: Call, rows: dict[str, float]) -> float:
    """The rows a call works on in a step: in a loop, those of all levels."""
    return float(call.once) if call.once else rows.get(call.domain, rows["prefix"])


def call_flops(call: Call, rows: dict[str, float], keys: float) -> float:
    return call.kernel.flops.of(rows_of(call, rows), keys)


def call_bytes(call: Call, rows: dict[str, float], keys: float) -> float:
    """Every operand of a kernel once."""
    return call.kernel.bytes.of(rows_of(call, rows), keys)
