"""Which register tiles are fastest here: candidates of every shape timed inside whole steps, the best kept.

Each build tries the next candidate of all its shapes at once and runs in turns with the default one, both counting
cycles by kernel; so every candidate is measured with the operands, the caches and the optimizer it will meet.
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
from eegen.measure.bench import WINDOW, Steps
from eegen.models import FITS
from eegen.models.config import ModelConfig
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.kernels.matrix import Outer, Product
from eegen.plan.planner import Plan, outer_shape, product_shape
from eegen.plan.tree import Recurrence
from eegen.run.compiled import Compiled, compile_model, pick_target
from eegen.run.data import Dataset, build_dataset
from eegen.targets.tiles import Choice
from eegen.toolchain import measured_tiles as tuned
from eegen.toolchain.compiler_search import find_compiler
from eegen.train.loop import TrainOptions, interrupts

SECONDS = 60.0
WINDOWS = 40  # of each candidate
WORTH = 0.985  # what a candidate must bring its kernel down to


@dataclass
class Shape:
    """A product or gradient of this size: its tile, and for others their time as a part of that with its own."""

    name: str
    default: Choice
    left: list[Choice]
    kernels: list[int]  # that are timed for it, by their place in the plan
    us: float = 0.0  # of all its calls in a step, with the default
    tried: dict[Choice, float] = field(default_factory=dict)
    count: int = 1  # of the tiles measured

    @property
    def best(self) -> Choice:
        best = min(self.tried, key=lambda choice: self.tried[choice], default=self.default)
        return best if self.tried.get(best, 1.0) < WORTH else self.default

    @property
    def gain(self) -> float:
        """The default's time over the best's."""
        return 1.0 if self.best == self.default else 1 / self.tried[self.best]


@dataclass(frozen=True)
class Outcome:
    """What a tuning found. `step_gain` is that of a whole step, 0 where it was not measured."""

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
    say: Callable[[str], None] = lambda what: None,
    target: str = "auto",
    cc: str | None = None,
    **build: Any,
) -> Outcome:
    """Try tiles for about `options.time` seconds; Ctrl-C ends it and keeps what was found until then."""
    if config.model in FITS:
        raise EegenError(f"there is nothing to tune: the model '{config.model}' is not trained in steps")
    began = time.perf_counter()
    chosen, compiler = pick_target(target), find_compiler(cc)
    before = tuned.load(chosen, compiler)
    data = build_dataset(documents, chars, config.block_size)

    def compiled(tiles: dict[str, Choice], profile: bool) -> Compiled:
        return compile_model(config, target, cc=cc, optimizer=options.optimizer, profile=profile, tiles=tiles, **build)

    default = compiled({}, True)
    shapes = shapes_of(default.plan)
    if not any(shape.left for shape in shapes):
        raise EegenError(f"there is nothing to tune: no tile of {config.title} could be another")
    end = began + (options.time or SECONDS)
    builds = 0
    with interrupts() as interrupted:
        base = Steps(default, data, options)
        base.timed.warm_up(WINDOW)
        cost = 0.0
        for tiles in candidates(shapes):
            started = time.perf_counter()
            if interrupted() or (builds and started + 3.5 * cost > end):  # three more builds are for the proof
                break
            try:
                made = compiled(tiles, True)
            except EegenError:
                if interrupted():  # the compiler has been too
                    break
                raise
            for shape, ratio in zip(shapes, compare(base, Steps(made, data, options), shapes)):
                if tiles[shape.name] != shape.default:
                    shape.tried[tiles[shape.name]] = ratio
                    shape.count += 1
            builds += 1
            cost = max(cost, time.perf_counter() - started)
            say(
                f"build {builds}: {sum(s.best != s.default for s in shapes)} of {len(shapes)} shapes have a better tile"
            )
        us = (0.0, 0.0)
        with contextlib.suppress(EegenError):
            if not interrupted():
                confirm(base, Steps(compiled(best_of(shapes), True), data, options), shapes)
            if best_of(shapes) and not interrupted():
                us = proof(compiled({}, False), compiled(best_of(shapes), False), data, options)
        base.close()
        stopped = interrupted()
    best = best_of(shapes)
    useful = bool(best) and (us[1] < us[0] or us == (0.0, 0.0))
    kept = {name: tile for name, tile in before.items() if name not in {s.name for s in shapes}}
    kept |= best if useful else {}
    file = tuned.save(chosen, compiler, kept) if kept or before else None
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
    """The shapes of a plan whose tiles are the target's choice, the one with the most work first."""
    found: dict[str, Shape] = {}
    work: dict[str, int] = {}
    called = [call.kernel for call in (*plan.forward, *plan.backward)]
    for number, kernel in enumerate(plan.kernels):
        for inner in (kernel.each if isinstance(kernel, Recurrence) else kernel,):
            if kernel not in called or plan.target.svl_bits:
                continue
            if (shape := shape_of(plan, inner)) is None:
                continue
            found.setdefault(shape.name, shape).kernels.append(number)
            work[shape.name] = work.get(shape.name, 0) + inner.flops.row * called.count(kernel)
    return sorted(found.values(), key=lambda s: -work[s.name])


def shape_of(plan: Plan, kernel: Kernel) -> Shape | None:
    target, lanes = plan.target, plan.target.lanes
    if isinstance(kernel, Product):
        vectors = kernel.n // lanes
        own, others = target.tile(vectors, kernel.k), target.choices(vectors, kernel.k)
        name = product_shape(vectors, kernel.k)
    elif isinstance(kernel, Outer):
        vectors = kernel.n // lanes
        own, others = target.outer_tile(kernel.m, vectors, multiple=4), target.outer_choices(kernel.m, vectors)
        name = outer_shape(kernel.m, vectors)
    else:
        return None
    default = (own.rows, own.vectors, own.unroll)
    return Shape(name, default, [choice for choice in others if choice != default], [])


def candidates(shapes: Sequence[Shape]) -> Iterator[dict[str, Choice]]:
    """The next candidate of every shape that has one left; the best so far of the others."""
    while any(shape.left for shape in shapes):
        yield {s.name: s.left.pop(0) if s.left else s.best for s in shapes}


def best_of(shapes: Sequence[Shape]) -> dict[str, Choice]:
    """The shapes that have a better tile than their own."""
    return {s.name: s.best for s in shapes if s.best != s.default}


def compare(base: Steps, other: Steps, shapes: Sequence[Shape]) -> list[float]:
    """Windows of both by turns, and from each shape's kernels its time as a part of the default's."""
    other.timed.count = base.timed.count
    other.timed.once()
    first = len(base.counters)
    for _ in range(WINDOWS):
        base.measure()
        other.measure()
    other.close()
    ticks_a_second = np.array(base.counters[first:])[:, 3:7].sum() / sum(s for s, _ in base.timed.windows[first:])
    ratios = []
    for shape in shapes:
        default = times(base, first, shape)
        shape.us = default / ticks_a_second * 1e6
        ratios.append(times(other, 0, shape) / default)
    return ratios


def confirm(base: Steps, best: Steps, shapes: Sequence[Shape]) -> None:
    """Measure the winners once more: among many candidates some win by luck."""
    for shape, ratio in zip(shapes, compare(base, best, shapes)):
        shape.tried = {shape.best: ratio} if shape.best != shape.default else {}


def times(steps: Steps, first: int, shape: Shape) -> float:
    """Ticks a step of a shape's kernels: the lower quartile of the windows, which others disturb least."""
    counters: NDArray[np.float64] = np.array(steps.counters[first:])
    return float(np.percentile(counters[:, [7 + k for k in shape.kernels]].sum(axis=1), 25))


def proof(default: Compiled, best: Compiled, data: Dataset, options: TrainOptions) -> tuple[float, float]:
    """Whole steps with the default tiles and with the best ones, in turns: µs each."""
    both = Steps(default, data, options), Steps(best, data, options)
    for steps in both:
        steps.timed.warm_up(WINDOW)
    for _ in range(4 * WINDOWS):
        for steps in both:
            steps.measure()
    for steps in both:
        steps.close()
    one, two = (float(np.percentile(steps.timed.seconds, 25)) * 1e6 for steps in both)
    return one, two


# --- in the terminal


def show(outcome: Outcome) -> None:
    print(f"{outcome.name}: {outcome.builds} builds in {outcome.seconds:.0f} s")
    wide = max(len(s.name) for s in outcome.shapes)
    print(f"{'shape':<{wide}}  {'default':>12}  {'best':>12}  {'µs':>8}  {'gain':>5}  tried")
    for s in outcome.shapes:
        best = tile_text(s.best) if s.best != s.default else "the same"
        print(f"{s.name:<{wide}}  {tile_text(s.default):>12}  {best:>12}  {s.us:8.2f}  {s.gain:5.2f}  {s.count:5}")
    print("Tiles are rows x vectors, then the unroll factor; shapes are vectors across, inner size (rows for outer).")
    if outcome.tuned_us:
        print(f"a step: {outcome.default_us:.1f} µs with the defaults, {outcome.tuned_us:.1f} µs with the best")
    if outcome.kept:
        print(f"kept for later builds: {outcome.kept}")
    else:
        print("nothing is kept: the defaults are as fast")


def tile_text(choice: Choice) -> str:
    rows, vectors, unroll = choice
    return f"{rows} x {vectors}, {unroll}"
