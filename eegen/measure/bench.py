"""How fast a model trains on this machine, beside what its core can do.

Steps and the FMA peak loop of the same library are timed in turns, in windows so short that both see the same clock;
so is whatever the model is compared with. A window in which the operating system gave the core to somebody else is
left out, as long as enough others remain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError, EegenFailure
from eegen.measure import peers
from eegen.models import FITS
from eegen.models.config import ModelConfig
from eegen.plan.call import Call
from eegen.plan.planner import Plan
from eegen.run.compiled import Compiled, compile_model
from eegen.run.data import Dataset, build_dataset, split
from eegen.run.session import Library, Session
from eegen.train.loop import PARTS, STEP_OPTIONS, TrainOptions

WINDOW = 1.5e-3  # seconds of one thing, then of the next; starting threads takes too long for that
WINDOW_OF_THREADS = 20e-3
MEASURE_SECONDS = 2.0
FEWEST_ROUNDS = 4
TURNS = 8
WARM_SECONDS = 0.1
STEPS_A_CALL = 8192
UNDISTURBED = 0.98  # a window counts if the process had the processor for that part of it
SAME_STEPS = 3  # whose losses have to agree


@dataclass
class Timed:
    """Something that is timed in turns with others. `run(n)` does it n times `unit` times over."""

    name: str
    run: Callable[[int], object]
    most: int = 1 << 40
    threads: int = 1
    unit: int = 1
    count: int = 1
    windows: list[tuple[float, bool]] = field(default_factory=list)  # seconds for one, undisturbed

    def warm_up(self, window: float) -> None:
        """Find how often it is done in a window."""
        end, best = time.perf_counter() + WARM_SECONDS, float("inf")
        while True:
            best = min(best, self.once()[0])
            self.count = max(1, min(round(window / best / self.unit), self.most))
            if time.perf_counter() > end:
                return

    def once(self) -> tuple[float, bool]:
        cpu, start = time.process_time(), time.perf_counter()
        self.run(self.count)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        return wall / self.count / self.unit, cpu >= UNDISTURBED * wall * min(self.threads, processors())

    def measure(self) -> None:
        self.windows.append(self.once())

    @property
    def kept(self) -> list[int]:
        """The windows that count: the undisturbed ones, or all where those are few."""
        good = [i for i, (_, undisturbed) in enumerate(self.windows) if undisturbed]
        return good if len(good) >= len(self.windows) / 8 else list(range(len(self.windows)))

    @property
    def seconds(self) -> NDArray[np.float64]:
        return np.array([self.windows[i][0] for i in self.kept])


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_turns(steps: Sequence[Steps], peak: Timed, rivals: Sequence[Timed], seconds: float) -> None:
    """Windows of steps and of the peak by turns, then one of each rival, over and over, for about that long.

    Whoever comes after something that uses memory does one window for nothing: it finds none of its own in the caches.
    """
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < FEWEST_ROUNDS or time.perf_counter() < end:
        for one in steps:
            one.timed.once()
            for _ in range(TURNS):
                one.measure()
                peak.measure()
        for thing in rivals:
            thing.once()
            thing.measure()
        rounds += 1


@dataclass(frozen=True)
class KernelTime:
    """A kernel's part of a step. `bytes` is what it has to move at least: every operand once a call."""

    name: str
    shape: str
    us: float
    flops: float  # a step
    bytes: float  # a step
    peak_gflops: float

    @property
    def gflops(self) -> float:
        return self.flops / self.us * 1e-3 if self.us else 0.0

    @property
    def fraction_of_peak(self) -> float:
        return self.gflops / self.peak_gflops


@dataclass(frozen=True)
class Result:
    """What a measurement gave. Times are medians of windows unless they say otherwise."""

    name: str
    batch: int
    threads: int
    sharing: bool
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


class Steps:
    """Training steps of one build, and what the library's counters say about each window of them."""

    def __init__(self, compiled: Compiled, data: Dataset, options: TrainOptions) -> None:
        self.plan, self.options = compiled.plan, options
        self.session = open_session(compiled, data, options)
        self.rates = np.full(STEPS_A_CALL, options.lr, np.float32)
        self.counters: list[NDArray[np.float64]] = []
        self.keys: list[float] = []
        self.timed = Timed("eegen", self.run, STEPS_A_CALL, options.threads)

    def run(self, n: int) -> None:
        if not self.session.train(self.rates[:n])[-1] < 1e30:
            raise EegenError(f"the loss is no longer a number: a lower --lr than {self.options.lr:g} may help")

    def measure(self) -> None:
        """One window of `timed`, with the difference it makes to the counters."""
        before = self.read()
        self.timed.measure()
        self.counters.append((self.read() - before) / self.timed.count)
        header = self.session.header
        rows = int(header["rows"])
        self.keys.append(float(self.session.array("depth", rows).mean()) + 1 if rows else 0.0)

    def read(self) -> NDArray[np.float64]:
        """Rows, pairs, positions, then ticks of the parts, then those of the kernels."""
        header = self.session.header
        totals = [header["total_rows"], header["total_pairs"], header["total_count"]]
        return np.array([*totals, *header["ticks"], *np.atleast_1d(header["kernel_ticks"])], np.float64)

    def close(self) -> None:
        self.session.engine.close()

    def mean(self, first: int, last: int) -> NDArray[np.float64]:
        """Of some counters, a step, over all windows."""
        return np.array(self.counters)[:, first:last].mean(axis=0)

    def median_of_ticks(self, first: int, last: int) -> NDArray[np.float64]:
        """The same over the windows that count, as microseconds whose sum over the parts is the median step."""
        kept = np.array(self.counters)[self.timed.kept]
        whole = kept[:, 3:7].sum(axis=1, keepdims=True)
        shares = kept[:, first:last] / np.maximum(whole, 1)
        return np.asarray(np.median(shares, axis=0) * np.median(self.timed.seconds) * 1e6)


def open_session(compiled: Compiled, data: Dataset, options: TrainOptions) -> Session:
    session = Session(
        compiled.plan,
        Library(compiled.build.path),
        data,
        **options.session,
        chunk=STEPS_A_CALL,
    )
    for name in STEP_OPTIONS:
        session.header[name] = getattr(options, name)
    session.init()
    return session


def bench(
    config: ModelConfig,
    documents: Sequence[str],
    chars: str,
    options: TrainOptions,
    *,
    profile: bool = False,
    against: Sequence[str] = (),
    say: Callable[[str], None] = lambda what: None,
    **build: Any,
) -> Result:
    """Measure the training steps of a model; `build` goes to `compile_model`: target, svl_bits, cc."""
    if config.model in FITS:
        raise EegenError(f"there is nothing to measure: the model '{config.model}' is not trained in steps")
    build["optimizer"] = options.optimizer
    if against and (options.optimizer != "adam" or options.clip):
        raise EegenError("--against compares steps of plain Adam: leave --optimizer and --clip out")
    if options.val is not None:
        documents, _ = split(documents, options.val, options.seed)
    data = build_dataset(documents, chars, config.block_size)
    for name in against:
        peers.find(name)
    began = time.perf_counter()
    compiled = compile_model(config, **build)
    seconds = time.perf_counter() - began if not compiled.build.cached else compiled.build.seconds
    steps = Steps(compiled, data, options)
    counted = Steps(compile_model(config, **build, profile=True), data, options) if profile else None
    both = [steps, *([counted] if counted else [])]
    rivals = [rival(name, compiled, data, options) for name in dict.fromkeys(against)]
    lib = steps.session.engine.lib  # type: ignore[attr-defined]
    peak = Timed("peak", lib.eegen_peak)

    window = WINDOW if options.threads == 1 else WINDOW_OF_THREADS
    for thing in (peak, *(one.timed for one in both), *rivals):
        say(f"warming up: {thing.name}")
        thing.warm_up(WINDOW if thing is peak else window)
    say("measuring")
    in_turns(both, peak, rivals, options.time or MEASURE_SECONDS * (len(both) + len(rivals)))
    result = summary(compiled, data, options, steps, counted, peak, seconds, rivals)
    for one in both:
        one.close()
    return result


def rival(name: str, compiled: Compiled, data: Dataset, options: TrainOptions) -> Timed:
    """The same steps of the same model in another framework; that they are the same, the first losses prove."""
    session = open_session(compiled, data, options)
    peer = peers.load(name, compiled.plan.build.model, data, options, session.parameters, int(session.header["rng"]))
    theirs = np.array(peer.run(max(1, SAME_STEPS // peer.unit)))[:SAME_STEPS]
    ours = session.train(np.full(len(theirs), options.lr, np.float32))
    session.engine.close()
    if not np.allclose(theirs, ours, rtol=1e-3):
        raise EegenFailure(f"the model in {name} is another: its losses begin {theirs.tolist()}, ours {ours.tolist()}")
    return Timed(name, peer.run, threads=options.threads, unit=peer.unit)


def summary(
    compiled: Compiled,
    data: Dataset,
    options: TrainOptions,
    steps: Steps,
    counted: Steps | None,
    peak: Timed,
    build_seconds: float,
    rivals: Sequence[Timed],
) -> Result:
    plan, timed = compiled.plan, steps.timed
    flops = steps.session.engine.lib.eegen_peak_flops() * options.threads * 1e-9  # type: ignore[attr-defined]
    us = timed.seconds * 1e6
    prefix, pair, positions = steps.mean(0, 3)
    low, high = np.percentile(us, [25, 75])
    peak_gflops = flops / float(np.median(peak.seconds))
    return Result(
        name=plan.build.name,
        batch=options.batch,
        threads=options.threads,
        sharing=options.sharing,
        us_per_step=float(np.median(us)),
        us_per_step_min=float(us.min()),
        us_middle=(float(low), float(high)),
        windows=len(us),
        windows_left_out=len(timed.windows) - len(us),
        steps_per_window=timed.count,
        peak_gflops=peak_gflops,
        peak_gflops_max=flops / float(peak.seconds.min()),
        model_flops_per_step=plan.flops(data.mean_positions * options.batch),
        breakdown_us=dict(zip(PARTS, steps.median_of_ticks(3, 7).tolist())),
        rows={"positions": float(positions), "prefix": float(prefix), "pair": float(pair)},
        build_seconds=build_seconds,
        kernels=kernel_times(plan, counted, peak_gflops) if counted else (),
        against={thing.name: float(np.median(thing.seconds)) * 1e6 for thing in rivals},
        fused=any(p.fused for p in plan.parameters),
    )


# --- kernels


def kernel_times(plan: Plan, steps: Steps, peak_gflops: float) -> tuple[KernelTime, ...]:
    """Each kernel's time, with the work of all its calls; the slowest first."""
    prefix, pair, _ = steps.mean(0, 3)
    rows = {"prefix": float(prefix), "pair": float(pair)}
    keys = float(np.mean(steps.keys))
    times = steps.median_of_ticks(7, 7 + len(plan.kernels))
    calls = [*plan.forward, *([plan.loss] if plan.loss else []), *plan.backward]
    found = []
    for kernel, us in zip(plan.kernels, times.tolist()):
        own = [call for call in calls if call.kernel == kernel]
        if not own:
            continue
        flops = sum(call_flops(call, rows, keys) for call in own)
        moved = sum(call_bytes(call, rows, keys) for call in own)
        found.append(KernelTime(kernel.name, kernel.shape, us, flops, moved, peak_gflops))
    return tuple(sorted(found, key=lambda k: -k.us))


def rows_of(call: Call, rows: dict[str, float]) -> float:
    """The rows a call works on; a number stands for itself (rows of a parameter)."""
    return rows[call.domain] if call.domain in rows else float(call.domain)


def call_flops(call: Call, rows: dict[str, float], keys: float) -> float:
    return call.kernel.flops.of(rows_of(call, rows), keys)


def call_bytes(call: Call, rows: dict[str, float], keys: float) -> float:
    """Every operand of a kernel once."""
    return call.kernel.bytes.of(rows_of(call, rows), keys)


# --- in the terminal

BAR = 32
EIGHTHS = " ▏▎▍▌▋▊▉"


def show(result: Result) -> None:
    low, high = result.us_middle
    out = f", {result.windows_left_out} left out as disturbed" if result.windows_left_out else ""
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    sharing = "" if result.sharing else ", no row shared"
    print(f"{result.name}: batch {result.batch}, {threads}{sharing}")
    print(
        f"step         {result.us_per_step:.1f} µs, the median of {result.windows} windows of "
        f"{result.steps_per_window} (middle half {low:.1f} to {high:.1f}, minimum {result.us_per_step_min:.1f}){out}"
    )
    parts = ", ".join(f"{name} {us:.1f}" for name, us in result.breakdown_us.items())
    print(f"of it        {parts}")
    if result.fused:
        print("             backward holds the update of every matrix that one product makes the gradient of")
    print(
        f"peak         {result.peak_gflops:.0f} GFLOP/s of FMAs beside the steps (at most {result.peak_gflops_max:.0f})"
    )
    print(
        f"limit        {result.limit_us:.1f} µs, for the {result.model_flops_per_step / 1e6:.2f} MFLOP "
        "of every position at that peak"
    )
    print(f"utilization  {result.utilization:.2f}")
    rows, all_rows = result.rows, result.rows["positions"]
    print(
        f"rows         {all_rows:.0f} positions: {rows['prefix']:.0f} prefixes ({rows['prefix'] / all_rows:.2f}), "
        f"{rows['pair']:.0f} (token, position) pairs ({rows['pair'] / all_rows:.2f})"
    )
    for name, us in result.against.items():
        print(f"{name:<12} {us:.1f} µs a step, {us / result.us_per_step:.1f} times as long")
    print(f"built in     {result.build_seconds:.1f} s")
    if result.kernels:
        show_kernels(result)


def show_kernels(result: Result) -> None:
    """A bar a kernel; in the bar the part of its time that its FLOPs take at the peak."""
    wide = max(len(k.name) for k in result.kernels)
    most = max(k.us for k in result.kernels)
    total = sum(k.us for k in result.kernels)
    print(f"\n{'kernel':<{wide}}  {'µs':>7}  {'GFLOP/s':>7}  {'of peak':>7}")
    for k in result.kernels:
        speed = f"{k.gflops:7.0f}  {k.fraction_of_peak:7.2f}" if k.flops else f"{'':7}  {'':7}"
        print(f"{k.name:<{wide}}  {k.us:7.2f}  {speed}  {bar(k.us / most)}")
    print(f"{'all kernels':<{wide}}  {total:7.2f}")
    if result.fused:
        print("The update inside a gradient is not counted as FLOPs, so those kernels look slower than they are.")


def bar(part: float) -> str:
    eighths = round(part * BAR * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
