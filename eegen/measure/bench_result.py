"""The result of a measurement of training steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eegen.measure.kernel_times import KernelTime


@dataclass(frozen=True)
class Result:
    """A measurement. Times are medians of windows unless they say otherwise."""

    name: str
    batch: int
    threads: int
    sharing: bool
    emulated: bool
    us_per_step: float
    us_per_step_min: float
    us_middle: tuple[float, float]  # the middle half of the windows
    windows: int
    windows_left_out: int
    steps_per_window: int
    peak_gflops: float  # sustained, of all threads together
    peak_gflops_max: float
    model_flops_per_step: float
    breakdown_us: dict[str, float]
    rows: dict[str, float]  # positions, prefix, pair: mean of a batch
    build_seconds: float
    kernels: tuple[KernelTime, ...] = ()
    against: dict[str, float] = field(default_factory=dict)  # us_per_step
    fused: bool = False  # the optimizer updates most weights in the backward pass

    @property
    def limit_us(self) -> float:
        """What the model FLOPs take at the peak."""
        return self.model_flops_per_step / self.peak_gflops * 1e-3

    @property
    def utilization(self) -> float:
        return self.limit_us / self.us_per_step

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "batch": self.batch,
            "threads": self.threads,
            "sharing": self.sharing,
            "emulated": self.emulated,
            "us_per_step": self.us_per_step,
            "us_per_step_min": self.us_per_step_min,
            "us_per_step_middle_half": list(self.us_middle),
            "windows": self.windows,
            "windows_left_out": self.windows_left_out,
            "steps_per_window": self.steps_per_window,
            "peak_gflops": self.peak_gflops,
            "peak_gflops_max": self.peak_gflops_max,
            "model_flops_per_step": self.model_flops_per_step,
            "limit_us": self.limit_us,
            "utilization": self.utilization,
            "breakdown_us": self.breakdown_us,
            "rows": self.rows,
            "kernels": [
                {
                    "name": k.name,
                    "us": k.us,
                    "gflops": k.gflops,
                    "fraction_of_peak": k.fraction_of_peak,
                    "flops": k.flops,
                    "bytes": k.bytes,
                }
                for k in self.kernels
            ],
            "against": self.against,
            "build_seconds": self.build_seconds,
        }
