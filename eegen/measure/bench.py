"""How fast a model trains on this machine, compared with the peak of its arithmetic units.

Windows of training steps alternate with windows of the same build's loop of independent FMAs, and with windows of the
same model in other frameworks; each is so short that all see the same clock frequency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eegen.errors import EegenError, EegenFailure
from eegen.measure import peers
from eegen.measure.bench_result import Result
from eegen.measure.kernel_times import kernel_times
from eegen.measure.steps import Steps, open_session
from eegen.measure.stopwatch import Stopwatch
from eegen.models import FITS
from eegen.models.config import ModelConfig
from eegen.run.data import Dataset, build_dataset, split
from eegen.run.header import PHASES
from eegen.run.model_builds import Compiled, compile_model
from eegen.train.options import TrainOptions

__all__ = ["WINDOW", "Result", "bench"]

WINDOW = 1.5e-3  # seconds of one thing, then of the next
WINDOW_OF_THREADS = 20e-3  # longer, because starting threads takes long
MEASURE_SECONDS = 2.0
MIN_ROUNDS = 4
WINDOWS_PER_ROUND = 8
COMPARED_LOSSES = 3  # first losses that must agree with another framework's


def bench(
    config: ModelConfig,
    documents: Sequence[str],
    chars: str,
    options: TrainOptions,
    *,
    profile: bool = False,
    against: Sequence[str] = (),
    emulate: bool = False,
    report: Callable[[str], None] = lambda message: None,
    **build: Any,
) -> Result:
    """Measure the training steps of a model; `build` goes to `compile_model`: target, svl_bits, cc.

    With `emulate` the steps run in the target's emulator; the times are the emulator's.
    """
    if config.model in FITS:
        raise EegenError(f"there is nothing to measure: the model '{config.model}' is not trained in steps")
    if against and (options.optimizer != "adam" or options.clip):
        raise EegenError("`against` compares steps of plain Adam: leave `optimizer` and `clip` out")
    build |= {"optimizer": options.optimizer, "kind": "server" if emulate else "library"}
    if options.val is not None:
        documents, _ = split(documents, options.val, options.seed)
    data = build_dataset(documents, chars, config.block_size)
    for name in against:
        peers.find(name)
    began = time.perf_counter()
    compiled = compile_model(config, **build)
    seconds = time.perf_counter() - began if not compiled.build.cached else compiled.build.seconds
    steps = Steps(compiled, data, options)
    profiled = None
    if profile:
        profiled = Steps(compile_model(config, **build, profile=True, programs=("train",)), data, options)
    both = [steps, *([profiled] if profiled else [])]
    others = [peer_stopwatch(name, compiled, data, options) for name in dict.fromkeys(against)]
    engine = steps.session.engine
    peak = Stopwatch("peak", engine.peak, in_process=engine.in_process)

    window = WINDOW if options.threads == 1 else WINDOW_OF_THREADS
    for stopwatch in (peak, *(one.stopwatch for one in both), *others):
        report(f"warming up: {stopwatch.name}")
        stopwatch.warm_up(WINDOW if stopwatch is peak else window)
    report("measuring")
    alternate(both, peak, others, options.time or MEASURE_SECONDS * (len(both) + len(others)))
    result = summarize(steps, profiled, peak, others, data, seconds)
    for one in both:
        one.close()
    return result


def alternate(steps: Sequence[Steps], peak: Stopwatch, others: Sequence[Stopwatch], seconds: float) -> None:
    """Alternate windows of steps and of the peak, then of every other framework, for about that long.

    Each begins with a window that is not counted, which brings its memory back into the caches.
    """
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < MIN_ROUNDS or time.perf_counter() < end:
        for one in steps:
            one.stopwatch.time_window()
            for _ in range(WINDOWS_PER_ROUND):
                one.measure()
                peak.measure()
        for other in others:
            other.time_window()
            other.measure()
        rounds += 1


def peer_stopwatch(name: str, compiled: Compiled, data: Dataset, options: TrainOptions) -> Stopwatch:
    """A stopwatch of the same steps in another framework, whose first losses must equal this model's."""
    session = open_session(compiled, data, options)
    peer = peers.load(name, compiled.plan.build.model, data, options, session.parameters, session.counters.rng)
    theirs = np.array(peer.run(max(1, COMPARED_LOSSES // peer.unit)))[:COMPARED_LOSSES]
    ours = session.train(np.full(len(theirs), options.lr, np.float32))
    session.close()
    if not np.allclose(theirs, ours, rtol=1e-3):
        raise EegenFailure(f"the model in {name} is another: its losses begin {theirs.tolist()}, ours {ours.tolist()}")
    return Stopwatch(name, peer.run, threads=options.threads, unit=peer.unit)


def summarize(
    steps: Steps,
    profiled: Steps | None,
    peak: Stopwatch,
    others: Sequence[Stopwatch],
    data: Dataset,
    build_seconds: float,
) -> Result:
    plan, options, stopwatch, engine = steps.plan, steps.options, steps.stopwatch, steps.session.engine
    gflops = engine.peak_flops * options.threads * 1e-9
    us = stopwatch.seconds * 1e6
    low, high = np.percentile(us, [25, 75])
    peak_gflops = gflops / float(np.median(peak.seconds))
    return Result(
        name=plan.build.name,
        batch=options.batch,
        threads=options.threads,
        sharing=options.sharing,
        emulated=not engine.in_process,
        us_per_step=float(np.median(us)),
        us_per_step_min=float(us.min()),
        us_middle=(float(low), float(high)),
        windows=len(us),
        windows_left_out=len(stopwatch.windows) - len(us),
        steps_per_window=stopwatch.count,
        peak_gflops=peak_gflops,
        peak_gflops_max=gflops / float(peak.seconds.min()),
        model_flops_per_step=plan.flops(data.mean_positions * options.batch),
        breakdown_us=dict(zip(PHASES, steps.phases_us.tolist(), strict=True)),
        rows={name: steps.mean(name) for name in ("positions", "prefix", "pair")},
        build_seconds=build_seconds,
        kernels=kernel_times(profiled, peak_gflops) if profiled else (),
        against={other.name: float(np.median(other.seconds)) * 1e6 for other in others},
        fused=any(p.fused for p in plan.parameters),
    )
