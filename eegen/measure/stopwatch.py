"""Timing in short alternating windows, so that all that is compared sees the same clock frequency.

A window in which the operating system gave the processor to another process is left out, as long as enough others
remain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WARM_UP_SECONDS = 0.1
UNDISTURBED = 0.98  # a window counts if the process had the processor for that part of it
MIN_KEPT = 1 / 8  # of the windows; if fewer are undisturbed, all count


class Window(NamedTuple):
    seconds: float  # of one repetition
    undisturbed: bool


@dataclass
class Stopwatch:
    """Times an action in windows: `run(count)` repeats it `count * unit` times.

    `in_process` says that its processor time is this process's, by which disturbed windows are found.
    """

    name: str
    run: Callable[[int], object]
    max_count: int = 1 << 40
    threads: int = 1
    unit: int = 1
    in_process: bool = True
    count: int = 1
    windows: list[Window] = field(default_factory=list)

    def warm_up(self, seconds: float) -> None:
        """Repeat the action until it is at full speed, and set `count` for windows of that many seconds."""
        end, best = time.perf_counter() + WARM_UP_SECONDS, float("inf")
        while True:
            best = min(best, self.time_window().seconds)
            self.count = max(1, min(round(seconds / best / self.unit), self.max_count))
            if time.perf_counter() > end:
                return

    def time_window(self) -> Window:
        cpu, start = time.process_time(), time.perf_counter()
        self.run(self.count)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        needed = UNDISTURBED * wall * min(self.threads, processors()) if self.in_process else 0.0
        return Window(wall / self.count / self.unit, cpu >= needed)

    def measure(self) -> None:
        self.windows.append(self.time_window())

    @property
    def kept(self) -> list[int]:
        """The windows that count: the undisturbed ones, or all if those are few."""
        undisturbed = [i for i, window in enumerate(self.windows) if window.undisturbed]
        return undisturbed if len(undisturbed) >= len(self.windows) * MIN_KEPT else list(range(len(self.windows)))

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds of a repetition in each window that counts."""
        return np.array([self.windows[i].seconds for i in self.kept])


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
