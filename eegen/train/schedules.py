"""Learning-rate schedules: the factor on the learning rate by the part of the run that is done before a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Factors = NDArray[np.float64]

FLOOR = 0.01  # the last factor of exponential decay
WARMDOWN = 0.4  # the part of the run in which warmdown falls


def constant(progress: Factors) -> Factors:
    return np.ones_like(progress)


def linear(progress: Factors) -> Factors:
    return 1 - progress


def cosine(progress: Factors) -> Factors:
    return (1 + np.cos(np.pi * progress)) / 2


def exponential(progress: Factors) -> Factors:
    return FLOOR**progress


def warmdown(progress: Factors) -> Factors:
    """Constant, then linear to zero."""
    return np.minimum(1, (1 - progress) / WARMDOWN)


SCHEDULES: dict[str, Callable[[Factors], Factors]] = {
    "linear": linear,
    "constant": constant,
    "cosine": cosine,
    "exponential": exponential,
    "warmdown": warmdown,
}


def rates(lr: float, schedule: str, warmup: float, step: Factors, progress: Factors) -> NDArray[np.float32]:
    """The learning rates of steps numbered from 1, where `progress` (0 to 1) is the part of the run done before each.

    `warmup` from 1 up is a number of steps, below 1 a part of the run; through it the rate rises from zero.
    """
    factor = SCHEDULES[schedule](np.clip(progress, 0, 1))
    if warmup >= 1:
        factor = factor * np.minimum(1, step / warmup)
    elif warmup > 0:
        factor = factor * np.minimum(1, progress / warmup)
    return (lr * factor).astype(np.float32)
