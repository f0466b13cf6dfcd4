"""The training loop: the steps of a session in chunks, each short enough to react to Ctrl-C, report and keep time."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eegen.models import FITS
from eegen.run.header import PHASES
from eegen.run.session import Session
from eegen.train.options import TrainOptions
from eegen.train.schedules import rates

RECENT = 100
"""Steps whose mean loss is the loss of a run; `until_loss` is tested each time that many steps are done."""
CHUNK_SECONDS = 0.04
CHUNK_STEPS = 4096
DIVERGED = 1e30
"""A loss that is not below this ends a run, in the generated code too."""


@dataclass
class Position:
    """How far a run is: steps of its schedule done, seconds spent on them, the last `RECENT` losses."""

    done: int = 0
    seconds: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def loss(self) -> float:
        """The mean of the recent losses."""
        return math.fsum(self.recent) / len(self.recent) if self.recent else math.nan


@dataclass(frozen=True)
class Chunk:
    """Steps just done: the number of the first, loss and learning rate of each, and the run so far."""

    first: int
    losses: NDArray[np.float32]
    lr: NDArray[np.float32]
    position: Position
    us_per_step: float  # the mean of this run
    share: float  # of the run that is done
    remaining: float  # seconds, at the mean speed


@dataclass(frozen=True)
class Outcome:
    """What the loop did. `stopped` is done, reached (the loss asked for), interrupted or diverged."""

    losses: NDArray[np.float32]
    us_per_step: float
    breakdown_us: dict[str, float]
    stopped: str


def run(
    session: Session,
    options: TrainOptions,
    position: Position,
    on_chunk: Callable[[Chunk], None] = lambda chunk: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train until the steps, the time or the loss of the options are reached; `position` is updated.

    A loss that is not finite ends the run before its step changes the weights; it is the last of the losses.
    """
    if session.plan.build.model.model in FITS:
        return _fit(session, position)
    losses: list[NDArray[np.float32]] = []
    ticks = session.measure().phases
    began, spent, before, count, us = time.perf_counter(), 0.0, position.seconds, 0, 0.0
    stopped = ""
    while not stopped:
        n = _chunk_size(options, position, us)
        steps = np.arange(position.done + 1, position.done + n + 1, dtype=np.float64)
        lr = rates(options.lr, options.schedule, options.warmup, steps, _progress(options, position, steps, us))
        start = time.perf_counter()
        new = session.train(lr)
        now = time.perf_counter()
        spent += now - start
        diverged = len(new) < n or not new[-1] < DIVERGED
        done = len(new) - diverged
        position.done += done
        position.seconds = before + now - began
        position.recent.extend(new[:done].tolist())
        losses.append(new)
        count += done
        us = (now - start) / max(done, 1) * 1e6
        first = position.done - done + 1
        mean = spent / max(count, 1) * 1e6
        on_chunk(Chunk(first, new, lr[: len(new)], position, mean, *_outlook(options, position, mean)))
        if diverged:
            stopped = "diverged"
        elif _reached(options, position):
            stopped = "reached"
        elif _finished(options, position):
            stopped = "done"
        elif interrupted():
            stopped = "interrupted"
    us_per_step = spent / max(count, 1) * 1e6
    ticks = (session.measure().phases - ticks).astype(np.float64)
    shares = ticks / max(ticks.sum(), 1) * us_per_step
    return Outcome(np.concatenate(losses), us_per_step, dict(zip(PHASES, shares.tolist())), stopped)


def _fit(session: Session, position: Position) -> Outcome:
    """A model computed from its data, as a run of one step: its loss is that of all the data."""
    began = time.perf_counter()
    session.fit()
    position.seconds = time.perf_counter() - began
    loss = session.loss()
    position.done = 1
    position.recent.append(loss)
    return Outcome(np.array([loss], np.float32), position.seconds * 1e6, dict.fromkeys(PHASES, 0.0), "done")


def _chunk_size(options: TrainOptions, position: Position, us: float) -> int:
    """Steps for about `CHUNK_SECONDS`: one before anything has been measured, and no more than the run has left."""
    n = max(1, min(int(CHUNK_SECONDS * 1e6 / us), CHUNK_STEPS)) if us else 1
    if options.time is not None and us:
        n = min(n, max(1, math.ceil((options.time - position.seconds) * 1e6 / us)))
    if options.until_loss is not None:
        n = min(n, RECENT - position.done % RECENT)
    if options.steps is not None:
        n = min(n, options.steps - position.done)
    return n


def _progress(options: TrainOptions, position: Position, steps: NDArray[np.float64], us: float) -> NDArray[np.float64]:
    """The part of the run that is done before each step: by steps or by time, whichever is more."""
    progress = np.zeros_like(steps)
    if options.steps is not None:
        progress = (steps - 1) / options.steps
    if options.time is not None:
        seconds = position.seconds + (steps - steps[0]) * us * 1e-6
        progress = np.maximum(progress, seconds / options.time)
    return progress


def _reached(options: TrainOptions, position: Position) -> bool:
    """Whether the loss is low enough: tested every `RECENT` steps, so that a seed always stops at the same step."""
    if options.until_loss is None or position.done % RECENT:
        return False
    return len(position.recent) == RECENT and position.loss <= options.until_loss


def _finished(options: TrainOptions, position: Position) -> bool:
    by_count = options.steps is not None and position.done >= options.steps
    return by_count or (options.time is not None and position.seconds >= options.time)


def finished(options: TrainOptions, position: Position) -> str:
    """Why no steps are left, or an empty string."""
    if not _finished(options, position):
        return ""
    if options.time is not None and position.seconds >= options.time:
        return f"it has used its {options.time:g} seconds; give a larger `time`"
    return f"it has done its {options.steps} steps; give a larger `steps`"


def _outlook(options: TrainOptions, position: Position, us: float) -> tuple[float, float]:
    """The part of the run that is done, and the seconds that remain."""
    shares, left = [], []
    if options.steps is not None:
        shares.append(position.done / options.steps)
        left.append((options.steps - position.done) * us * 1e-6)
    if options.time is not None:
        shares.append(position.seconds / options.time)
        left.append(options.time - position.seconds)
    return min(1.0, max(shares)), max(0.0, min(left))
