"""Training steps of one build, timed in windows, with the rows and clock ticks of each window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.measure.stopwatch import Stopwatch
from eegen.run.data import Dataset
from eegen.run.header import Totals
from eegen.run.model_builds import Compiled
from eegen.run.session import Session
from eegen.train.loop import DIVERGED
from eegen.train.options import TrainOptions

MAX_STEPS_PER_CALL = 8192


@dataclass(frozen=True)
class StepCounts:
    """Of an average step of a window: rows by domain, keys of a row, clock ticks by phase and by kernel."""

    positions: float
    prefix: float
    pair: float
    keys: float
    phases: NDArray[np.float64]
    kernels: NDArray[np.float64]


class Steps:
    """Steps of one session at a constant learning rate."""

    def __init__(self, compiled: Compiled, data: Dataset, options: TrainOptions) -> None:
        self.plan, self.options = compiled.plan, options
        self.session = open_session(compiled, data, options)
        self.rates = np.full(MAX_STEPS_PER_CALL, options.lr, np.float32)
        self.counts: list[StepCounts] = []
        in_process = self.session.engine.in_process
        self.stopwatch = Stopwatch("eegen", self.run, MAX_STEPS_PER_CALL, options.threads, in_process=in_process)

    def run(self, n: int) -> None:
        if not self.session.train(self.rates[:n])[-1] < DIVERGED:
            raise EegenError("the loss is no longer a number", lr=f": a lower `lr` than {self.options.lr:g} may help")

    def measure(self) -> None:
        """Time one window, and keep what it adds to the session's totals."""
        before = self.session.measure()
        self.stopwatch.measure()
        self.counts.append(self._counts(before, self.session.measure()))

    def _counts(self, before: Totals, after: Totals) -> StepCounts:
        n = self.stopwatch.count
        return StepCounts(
            positions=(after.rows.positions - before.rows.positions) / n,
            prefix=(after.rows.prefix - before.rows.prefix) / n,
            pair=(after.rows.pair - before.rows.pair) / n,
            keys=self.session.mean_keys,
            phases=(after.phases - before.phases) / n,
            kernels=(after.kernels - before.kernels) / n,
        )

    def mean(self, name: str) -> float:
        """The mean of a count over all windows."""
        return float(np.mean([getattr(counts, name) for counts in self.counts]))

    @property
    def phases_us(self) -> NDArray[np.float64]:
        """Microseconds of each phase, whose sum is about the median step."""
        return self._median_us([self.counts[i].phases for i in self.stopwatch.kept])

    @property
    def kernels_us(self) -> NDArray[np.float64]:
        """Microseconds of each kernel in a step, where the build counts them."""
        return self._median_us([self.counts[i].kernels for i in self.stopwatch.kept])

    def _median_us(self, ticks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Medians over the windows that count of the share of a step's ticks, times the median step."""
        step = np.array([self.counts[i].phases.sum() for i in self.stopwatch.kept])
        shares = np.array(ticks) / np.maximum(step, 1)[:, None]
        return np.asarray(np.median(shares, axis=0) * np.median(self.stopwatch.seconds) * 1e6)

    def close(self) -> None:
        self.session.close()


def open_session(compiled: Compiled, data: Dataset, options: TrainOptions) -> Session:
    """A session with its first weights, set to these options."""
    engine = compiled.open_engine()
    session = Session(compiled.plan, engine, data, **options.session_options, chunk=MAX_STEPS_PER_CALL)
    session.settings = options.step_settings
    session.init()
    return session
