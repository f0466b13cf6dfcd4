"""The training loop: a session's steps in chunks short enough to stop, to report and to follow the clock."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegen.defaults import ORDERS, TRAIN_DEFAULTS
from eegen.emit.arena import MAX_THREADS
from eegen.errors import EegenError
from eegen.language.optimizers import OPTIMIZERS, How
from eegen.models import FITS
from eegen.run.header import PHASES, StepSettings
from eegen.run.random_stream import MAX_SEED
from eegen.run.session import Session
from eegen.train.schedules import SCHEDULES, rates

RECENT = 100
"""Steps whose mean loss stands for the loss of a run; also how often `until_loss` is checked."""
CHUNK_SECONDS = 0.04
CHUNK_STEPS = 4096

LIMITS: dict[str, tuple[int, int]] = {
    "steps": (1, 10**12),
    "batch": (1, 4096),
    "seed": (1, MAX_SEED),
    "threads": (1, MAX_THREADS),
}


@dataclass(frozen=True)
class TrainOptions:
    """How to train. `steps=None` is 1000 steps, or with `time` as many as that many seconds hold."""

    steps: int | None = None
    batch: int = TRAIN_DEFAULTS["batch"]
    lr: float = TRAIN_DEFAULTS["lr"]
    seed: int = TRAIN_DEFAULTS["seed"]
    order: str = TRAIN_DEFAULTS["order"]
    schedule: str = "linear"
    warmup: float = 0.0
    time: float | None = None
    until_loss: float | None = None
    val: float | None = None
    threads: int = 1
    sharing: bool = True
    optimizer: str = "adam"
    beta1: float = How.beta1
    beta2: float = How.beta2
    momentum: float = How.momentum
    weight_decay: float = How.weight_decay
    clip: float = How.clip

    @property
    def step_settings(self) -> StepSettings:
        """The numbers of a step that the optimizer takes besides the learning rate."""
        return StepSettings(**{name: getattr(self, name) for name in STEP_OPTIONS})

    @property
    def session(self) -> dict[str, Any]:
        """The options of `Session` that they set."""
        return {
            "batch": self.batch,
            "seed": self.seed,
            "random": self.order == "random",
            "sharing": self.sharing,
            "threads": self.threads,
        }

    def __post_init__(self) -> None:
        if self.steps is None and self.time is None:
            object.__setattr__(self, "steps", TRAIN_DEFAULTS["steps"])
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise EegenError(f"`{name}` is {value}; it must be {low} to {high}")
        if not (self.lr > 0 and math.isfinite(np.float32(self.lr))):
            raise EegenError(f"`lr` is {self.lr:g}; it must be a number above 0")
        if self.order not in ORDERS:
            raise EegenError(f"`order` is '{self.order}'; it must be {' or '.join(ORDERS)}")
        if self.schedule not in SCHEDULES:
            raise EegenError(f"`schedule` is '{self.schedule}'; it must be one of {', '.join(SCHEDULES)}")
        if not 0 <= self.warmup < math.inf:
            raise EegenError(f"`warmup` is {self.warmup:g}; it must be steps (1 and up) or a part of the run (below 1)")
        if self.time is not None and not 0 < self.time < math.inf:
            raise EegenError(f"`time` is {self.time:g}; it must be a number of seconds above 0")
        if self.until_loss is not None and not 0 < self.until_loss < math.inf:
            raise EegenError(f"`until_loss` is {self.until_loss:g}; it must be a number above 0")
        if self.val is not None and not 0 < self.val < 1:
            raise EegenError(f"`val` is {self.val:g}; it must lie between 0 and 1")
        for name in ("beta1", "beta2", "momentum"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise EegenError(f"`{name}` is {value:g}; it must be from 0 to below 1")
        for name in ("weight_decay", "clip"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise EegenError(f"`{name}` is {value:g}; it must be a number from 0 up")


STEP_OPTIONS = ("beta1", "beta2", "momentum", "weight_decay", "clip")
"""Those that are numbers of a step (StepSettings)."""


def train_options(optimizer: str, **given: Any) -> TrainOptions:
    """Options for an optimizer: its own learning rate unless one is given, and nothing that it does not heed."""
    if optimizer not in OPTIMIZERS:
        raise EegenError(f"unknown optimizer '{optimizer}'; they are {', '.join(OPTIMIZERS)}")
    rule = OPTIMIZERS[optimizer]
    for name in given:
        if name in STEP_OPTIONS and name != "clip" and name not in rule.options:
            raise EegenError(f"`{name}` means nothing to the optimizer {optimizer}")
    return TrainOptions(**{"lr": rule.lr, **given, "optimizer": optimizer})


@dataclass
class Position:
    """How far a run is: steps of its schedule done, seconds spent on them, the losses of the last `RECENT`."""

    done: int = 0
    seconds: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def loss(self) -> float:
        return math.fsum(self.recent) / len(self.recent) if self.recent else math.nan


@dataclass(frozen=True)
class Chunk:
    """Some steps just done: the number of the first, the loss and learning rate of each, and the run so far."""

    first: int
    losses: NDArray[np.float32]
    lr: NDArray[np.float32]
    position: Position
    us_per_step: float  # on average in this run
    share: float  # of the run that is behind
    remaining: float  # seconds, if all goes on so


@dataclass(frozen=True)
class Outcome:
    """What a loop did. `stopped` is done, reached (the loss asked for), interrupted or diverged."""

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
    """Train until the options say enough, moving `position` along.

    A loss that is not finite ends the run before its step changes anything; it is the last of the losses.
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
        diverged = len(new) < n or not new[-1] < 1e30
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
    """Steps for about `CHUNK_SECONDS`: one while nothing has been measured, and none past an end."""
    n = max(1, min(int(CHUNK_SECONDS * 1e6 / us), CHUNK_STEPS)) if us else 1
    if options.time is not None and us:
        n = min(n, max(1, math.ceil((options.time - position.seconds) * 1e6 / us)))
    if options.until_loss is not None:
        n = min(n, RECENT - position.done % RECENT)
    if options.steps is not None:
        n = min(n, options.steps - position.done)
    return n


def _progress(options: TrainOptions, position: Position, steps: NDArray[np.float64], us: float) -> NDArray[np.float64]:
    """The part of the run behind each step: by count or by the clock, whichever is further."""
    progress = np.zeros_like(steps)
    if options.steps is not None:
        progress = (steps - 1) / options.steps
    if options.time is not None:
        seconds = position.seconds + (steps - steps[0]) * us * 1e-6
        progress = np.maximum(progress, seconds / options.time)
    return progress


def _reached(options: TrainOptions, position: Position) -> bool:
    """Looked at every `RECENT` steps, not after each chunk, so that a seed stops at the same step every time."""
    if options.until_loss is None or position.done % RECENT:
        return False
    return len(position.recent) == RECENT and position.loss <= options.until_loss


def _finished(options: TrainOptions, position: Position) -> bool:
    by_count = options.steps is not None and position.done >= options.steps
    return by_count or (options.time is not None and position.seconds >= options.time)


def finished(options: TrainOptions, position: Position) -> str:
    """Why there is nothing left to do, or an empty string."""
    if not _finished(options, position):
        return ""
    if options.time is not None and position.seconds >= options.time:
        return f"it has used its {options.time:g} seconds; give a larger `time`"
    return f"it has done its {options.steps} steps; give a larger `steps`"


def _outlook(options: TrainOptions, position: Position, us: float) -> tuple[float, float]:
    """The part of the run that is behind, and the seconds it may still take."""
    shares, left = [], []
    if options.steps is not None:
        shares.append(position.done / options.steps)
        left.append((options.steps - position.done) * us * 1e-6)
    if options.time is not None:
        shares.append(position.seconds / options.time)
        left.append(options.time - position.seconds)
    return min(1.0, max(shares)), max(0.0, min(left))


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C only sets a flag, so that no step is cut in two; the second is a KeyboardInterrupt."""
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    old = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, old)
