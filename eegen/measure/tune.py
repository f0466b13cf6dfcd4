"""Find the fastest register tiles on this machine: candidates of every shape timed inside whole steps.

Each build tries the next candidate of all its shapes at once. Its windows alternate with those of the default build,
and both count clock ticks by kernel, so every candidate is measured with the operands, cache contents and optimizer
of real training steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.measure.bench import WINDOW
from eegen.measure.steps import Steps
from eegen.models import FITS
from eegen.models.config import ModelConfig
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.kernels.matrix import Outer, Product, outer_shape, product_shape
from eegen.plan.records import Plan
from eegen.run.data import Dataset, build_dataset
from eegen.run.model_builds import Compiled, compile_model, pick_target
from eegen.targets.tiles import Choice
from eegen.toolchain import measured_tiles
from eegen.toolchain.compiler_search import find_compiler
from eegen.train.interrupts import interrupts
from eegen.train.options import TrainOptions

SECONDS = 60.0
WINDOWS = 40  # of each candidate
WORTHWHILE = 0.985  # a candidate must take less than that part of the default's time


@dataclass
class Shape:
    """A product or gradient of one size, with the tiles measured for it."""

    name: str
    default: Choice
    untried: list[Choice]
    kernels: list[int]  # the kernels of that size, by their number in the plan
    us: float = 0.0  # of all its calls in a step, with the default tile
    tried: dict[Choice, float] = field(default_factory=dict)  # time of a tile / time of the default
    count: int = 1  # tiles measured, the default included

    @property
    def best(self) -> Choice:
        best = min(self.tried, key=lambda choice: self.tried[choice], default=self.default)
        return best if self.tried.get(best, 1.0) < WORTHWHILE else self.default

    @property
    def gain(self) -> float:
        """The default's time over the best's."""
        return 1.0 if self.best == self.default else 1 / self.tried[self.best]


@dataclass(frozen=True)
class Outcome:
    """What tuning found. The times of whole steps are 0 if they were not measured."""

    name: str
    shapes: list[Shape]
    builds: int
    seconds: float
    default_us: float
    tuned_us: float
    kept: Path | None  # None: the defaults are as fast
    interrupted: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "default_us": self.default_us or None,
            "tuned_us": self.tuned_us or None,
            "builds": self.builds,
            "seconds": self.seconds,
            "kept": str(self.kept) if self.kept else None,
            "shapes": [
                {
                    "shape": s.name,
                    "default": s.default,
                    "best": s.best,
                    "us": s.us,
                    "gain": s.gain,
                    "tried": s.count,
                }
                for s in self.shapes
            ],
        }


def tune(
    config: ModelConfig,
    documents: Sequence[str],
    chars: str,
    options: TrainOptions,
    *,
    report: Callable[[str], None] = lambda message: None,
    target: str = "auto",
    cc: str | None = None,
    **build: Any,
) -> Outcome:
    """Try tiles for about `options.time` seconds; Ctrl-C ends it and keeps what was found until then."""
    if config.model in FITS:
        raise EegenError(f"there is nothing to tune: the model '{config.model}' is not trained in steps")
    began = time.perf_counter()
    chosen, compiler = pick_target(target), find_compiler(cc)
    before = measured_tiles.load(chosen, compiler)
    data = build_dataset(documents, chars, config.block_size)

    def compiled(tiles: dict[str, Choice], profile: bool) -> Compiled:
        programs = ("train",) if profile else ("train", "infer")
        return compile_model(
            config,
            target,
            cc=cc,
            optimizer=options.optimizer,
            profile=profile,
            programs=programs,
            tiles=tiles,
            **build,
        )

    default = compiled({}, True)
    shapes = shapes_of(default.plan)
    if not any(shape.untried for shape in shapes):
        raise EegenError(f"there is nothing to tune: no tile of {config.title} could be another")
    end = began + (options.time or SECONDS)
    builds = 0
    with interrupts() as interrupted:
        base = Steps(default, data, options)
        base.stopwatch.warm_up(WINDOW)
        cost = 0.0
        for tiles in candidates(shapes):
            started = time.perf_counter()
            if interrupted() or (builds and started + 3.5 * cost > end):  # three more builds are for the comparison
                break
            try:
                made = compiled(tiles, True)
            except EegenError:
                if interrupted():  # Ctrl-C ended the compiler too
                    break
                raise
            for shape, ratio in zip(shapes, compare(base, Steps(made, data, options), shapes)):
                if tiles[shape.name] != shape.default:
                    shape.tried[tiles[shape.name]] = ratio
                    shape.count += 1
            builds += 1
            cost = max(cost, time.perf_counter() - started)
            report(
                f"build {builds}: {sum(s.best != s.default for s in shapes)} of {len(shapes)} shapes have a better tile"
            )
        us = (0.0, 0.0)
        with contextlib.suppress(EegenError):
            if not interrupted():
                measure_again(base, Steps(compiled(best_of(shapes), True), data, options), shapes)
            if best_of(shapes) and not interrupted():
                us = step_times(compiled({}, False), compiled(best_of(shapes), False), data, options)
        base.close()
        stopped = interrupted()
    best = best_of(shapes)
    useful = bool(best) and (us[1] < us[0] or us == (0.0, 0.0))
    kept = {name: tile for name, tile in before.items() if name not in {s.name for s in shapes}}
    kept |= best if useful else {}
    file = measured_tiles.save(chosen, compiler, kept) if kept or before else None
    return Outcome(
        default.plan.build.name.removesuffix("-profile"),
        shapes,
        builds,
        time.perf_counter() - began,
        *us,
        file if useful else None,
        stopped,
    )


def shapes_of(plan: Plan) -> list[Shape]:
    """The shapes of a plan whose tiles can be chosen, the one with the most FLOPs first."""
    found: dict[str, Shape] = {}
    work: dict[str, int] = {}
    called = [call.kernel for call in plan.train.calls] if plan.train else []
    for number, kernel in enumerate(plan.kernels):
        if kernel not in called or (shape := shape_of(plan, kernel)) is None:
            continue
        found.setdefault(shape.name, shape).kernels.append(number)
        work[shape.name] = work.get(shape.name, 0) + kernel.flops.row * called.count(kernel)
    return sorted(found.values(), key=lambda s: -work[s.name])


def shape_of(plan: Plan, kernel: Kernel) -> Shape | None:
    target, lanes = plan.target, plan.target.lanes
    if isinstance(kernel, Product):
        vectors = kernel.n // lanes
        own, choices = target.tile(vectors, kernel.k), target.choices(vectors, kernel.k)
        name = product_shape(vectors, kernel.k)
    elif isinstance(kernel, Outer):
        vectors = kernel.n // lanes
        own, choices = target.outer_tile(kernel.m, vectors, multiple=4), target.outer_choices(kernel.m, vectors)
        name = outer_shape(kernel.m, vectors)
    else:
        return None
    default = (own.rows, own.vectors, own.unroll)
    return Shape(name, default, [choice for choice in choices if choice != default], [])


def candidates(shapes: Sequence[Shape]) -> Iterator[dict[str, Choice]]:
    """Tiles for build after build: the next untried one of every shape, or the best so far if there is none."""
    while any(shape.untried for shape in shapes):
        yield {s.name: s.untried.pop(0) if s.untried else s.best for s in shapes}


def best_of(shapes: Sequence[Shape]) -> dict[str, Choice]:
    """The best tile of each shape for which the default is not the best."""
    return {s.name: s.best for s in shapes if s.best != s.default}


def compare(base: Steps, other: Steps, shapes: Sequence[Shape]) -> list[float]:
    """Alternate windows of both; for each shape, the time of its kernels in `other` / their time in `base`."""
    other.stopwatch.count = base.stopwatch.count
    other.stopwatch.time_window()
    first = len(base.counts)
    for _ in range(WINDOWS):
        base.measure()
        other.measure()
    other.close()
    ticks = sum(counts.phases.sum() for counts in base.counts[first:])
    ticks_a_second = ticks / sum(window.seconds for window in base.stopwatch.windows[first:])
    ratios = []
    for shape in shapes:
        default = kernel_ticks(base, first, shape)
        shape.us = default / ticks_a_second * 1e6
        ratios.append(kernel_ticks(other, 0, shape) / default)
    return ratios


def measure_again(base: Steps, best: Steps, shapes: Sequence[Shape]) -> None:
    """Measure the best tiles once more: among many candidates some look best by chance."""
    for shape, ratio in zip(shapes, compare(base, best, shapes)):
        shape.tried = {shape.best: ratio} if shape.best != shape.default else {}


def kernel_ticks(steps: Steps, first: int, shape: Shape) -> float:
    """Ticks a step of a shape's kernels: the lower quartile of the windows, which other processes disturb least."""
    kernels: NDArray[np.float64] = np.array([counts.kernels[shape.kernels] for counts in steps.counts[first:]])
    return float(np.percentile(kernels.sum(axis=1), 25))


def step_times(default: Compiled, best: Compiled, data: Dataset, options: TrainOptions) -> tuple[float, float]:
    """Microseconds of whole steps with the default tiles and with the best ones, in alternating windows."""
    both = Steps(default, data, options), Steps(best, data, options)
    for steps in both:
        steps.stopwatch.warm_up(WINDOW)
    for _ in range(4 * WINDOWS):
        for steps in both:
            steps.measure()
    for steps in both:
        steps.close()
    one, two = (float(np.percentile(steps.stopwatch.seconds, 25)) * 1e6 for steps in both)
    return one, two
