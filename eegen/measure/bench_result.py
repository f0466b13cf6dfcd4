"""What `eegen bench` found: as data, and as text for the terminal."""

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


BAR = 32  # characters
EIGHTHS = " ▏▎▍▌▋▊▉"


def show(result: Result) -> None:
    low, high = result.us_middle
    out = f", {result.windows_left_out} left out as disturbed" if result.windows_left_out else ""
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    sharing = "" if result.sharing else ", no row shared"
    emulated = ", emulated: times are the emulator's" if result.emulated else ""
    print(f"{result.name}: batch {result.batch}, {threads}{sharing}{emulated}")
    print(
        f"step         {result.us_per_step:.1f} µs, the median of {result.windows} windows of "
        f"{result.steps_per_window} (middle half {low:.1f} to {high:.1f}, minimum {result.us_per_step_min:.1f}){out}"
    )
    phases = ", ".join(f"{name} {us:.1f}" for name, us in result.breakdown_us.items())
    print(f"of it        {phases}")
    if result.fused:
        print("             backward holds the update of every matrix that one product makes the gradient of")
    print(
        f"peak         {speed(result.peak_gflops)} GFLOP/s of FMAs beside the steps "
        f"(at most {speed(result.peak_gflops_max)})"
    )
    print(
        f"limit        {result.limit_us:.1f} µs, for the {result.model_flops_per_step / 1e6:.2f} MFLOP "
        "of every position at that peak"
    )
    print(f"utilization  {result.utilization:.2f}")
    rows, positions = result.rows, result.rows["positions"]
    print(
        f"rows         {positions:.0f} positions: {rows['prefix']:.0f} prefixes ({rows['prefix'] / positions:.2f}), "
        f"{rows['pair']:.0f} (token, position) pairs ({rows['pair'] / positions:.2f})"
    )
    for name, us in result.against.items():
        print(f"{name:<12} {us:.1f} µs a step, {us / result.us_per_step:.1f} times as long")
    print(f"built in     {result.build_seconds:.1f} s")
    if result.kernels:
        show_kernels(result)


def show_kernels(result: Result) -> None:
    """A bar for each kernel's time."""
    width = max(len(k.name) for k in result.kernels)
    longest = max(k.us for k in result.kernels)
    total = sum(k.us for k in result.kernels)
    print(f"\n{'kernel':<{width}}  {'µs':>7}  {'GFLOP/s':>7}  {'of peak':>7}")
    for k in result.kernels:
        work = f"{speed(k.gflops):>7}  {k.fraction_of_peak:7.2f}" if k.flops else f"{'':7}  {'':7}"
        print(f"{k.name:<{width}}  {k.us:7.2f}  {work}  {bar(k.us / longest)}")
    print(f"{'all kernels':<{width}}  {total:7.2f}")
    if result.fused:
        print("The update inside a gradient is not counted as FLOPs, so those kernels look slower than they are.")


def speed(gflops: float) -> str:
    """As text: an emulator's speed is a fraction of a GFLOP/s."""
    return f"{gflops:.0f}" if gflops >= 10 else f"{gflops:.2g}"


def bar(part: float) -> str:
    eighths = round(part * BAR * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
