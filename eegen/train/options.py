"""The options of a training run, checked, and those of one call of `Model.train`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from eegen.defaults import ORDERS, TRAIN_DEFAULTS
from eegen.emit.arena import MAX_THREADS
from eegen.errors import EegenError
from eegen.language.optimizers import OPTIMIZERS
from eegen.models import FITS
from eegen.run.header import StepSettings
from eegen.run.random_stream import MAX_SEED
from eegen.train.schedules import SCHEDULES

STEP_DEFAULTS = StepSettings()
STEP_OPTIONS = ("beta1", "beta2", "momentum", "weight_decay", "clip")
"""The options that are numbers of a step (StepSettings)."""

WITHOUT_STEPS = ("val", "threads", "sharing")
"""The options that also apply to a model that is computed from its data, not trained."""

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
    beta1: float = STEP_DEFAULTS.beta1
    beta2: float = STEP_DEFAULTS.beta2
    momentum: float = STEP_DEFAULTS.momentum
    weight_decay: float = STEP_DEFAULTS.weight_decay
    clip: float = STEP_DEFAULTS.clip

    @property
    def step_settings(self) -> StepSettings:
        """The numbers of a step that the optimizer takes besides the learning rate."""
        return StepSettings(**{name: getattr(self, name) for name in STEP_OPTIONS})

    @property
    def session_options(self) -> dict[str, Any]:
        """The arguments of `Session` that they determine."""
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


def train_options(optimizer: str, **given: Any) -> TrainOptions:
    """Options for an optimizer: its own learning rate unless one is given, and none that it does not use."""
    if optimizer not in OPTIMIZERS:
        raise EegenError(f"unknown optimizer '{optimizer}'; they are {', '.join(OPTIMIZERS)}")
    rule = OPTIMIZERS[optimizer]
    for name in given:
        if name in STEP_OPTIONS and name != "clip" and name not in rule.options:
            raise EegenError(f"`{name}` means nothing to the optimizer {optimizer}")
    return TrainOptions(**{"lr": rule.lr, **given, "optimizer": optimizer})


def options_of_call(previous: TrainOptions, given: Mapping[str, Any], model: str, resume: bool) -> TrainOptions:
    """The options of a call of `Model.train`, `given` those that are not None.

    A new run keeps the seed and the optimizer of the previous one; a resumed run keeps whatever is not given.
    """
    known = {field.name for field in fields(TrainOptions)} - {"seed", "optimizer"}
    if unknown := [name for name in given if name not in known]:
        raise TypeError(f"train() has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
    chosen = {name: value for name, value in given.items() if value is not None}
    unused = [name for name in chosen if name not in WITHOUT_STEPS]
    if unused and model in FITS:
        raise EegenError(f"`{unused[0]}` means nothing to the model '{model}', which is not trained")
    new = train_options(previous.optimizer, seed=previous.seed, **chosen)
    if not resume:
        return new
    kept = asdict(previous)
    if "time" in chosen and "steps" not in chosen:
        kept["steps"] = None
    return TrainOptions(**{**kept, **chosen})
