"""Models in checkpoints and back: what is kept of a run, and when."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.models.config import ModelConfig, model_config
from eegen.plan.records import Plan
from eegen.run.header import Counters
from eegen.run.session import Session
from eegen.train.loop import RECENT, Chunk, Position, TrainOptions

if TYPE_CHECKING:
    from eegen.model import Model
    from eegen.run.checkpoint import Checkpoint

Tensors = Mapping[str, NDArray[np.float32]]

SAVE_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class State:
    """All of a session that training changes, by name."""

    weights: Tensors
    optimizer: Tensors
    counters: Counters | None

    @classmethod
    def of(cls, session: Session) -> State:
        return cls(
            {name: view.copy() for name, view in session.parameters.items()},
            {name: view.copy() for name, view in session.optimizer.items()},
            session.counters,
        )

    def put(self, session: Session) -> None:
        for name, view in session.parameters.items():
            view[:] = self.weights[name]
        for name, view in session.optimizer.items():
            view[:] = self.optimizer.get(name, 0)
        if self.counters:
            session.counters = self.counters


def digest(documents: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(documents).encode("utf-8", "surrogatepass")).hexdigest()


# --- writing


def write(model: Model, path: Path) -> None:
    """Everything that a run needs to go on as if it had not stopped; the same run gives the same bytes."""
    from eegen.run import checkpoint

    session = model.session
    for name, view in session.parameters.items():
        if not np.isfinite(view).all():
            raise EegenError(f"{name} holds numbers that are not finite, so {path} was not written")
    training = {
        "optimizer": model.optimizer,
        "options": dataclasses.asdict(model.options),
        "done": model.position.done,
        "seconds": model.position.seconds if model.options.time is not None else 0.0,
        "recent": list(model.position.recent),
        **dataclasses.asdict(session.counters),
        "data": model.data_path,
        "data_digest": digest(model.documents),
        "target": model.target,
    }
    metadata = {"config": model.config.as_dict(), "vocabulary": model.chars, "training": training}
    checkpoint.save(path, session.parameters, session.optimizer, metadata)


class Saver:
    """Saves a model at the end and every minute, or less often where saving takes long."""

    def __init__(self, model: Model, path: Path) -> None:
        self.model, self.path = model, path
        self.due = time.monotonic() + SAVE_EVERY

    def now_and_then(self, chunk: Chunk) -> None:
        if time.monotonic() >= self.due and np.isfinite(chunk.losses).all() and self.model.finite:
            began = time.monotonic()
            self.save()
            now = time.monotonic()
            self.due = now + max(SAVE_EVERY, 20 * (now - began))

    def save(self) -> None:
        write(self.model, self.path)


# --- reading


def config_of(checkpoint: Checkpoint) -> ModelConfig:
    """The configuration in a checkpoint, checked as a user's would be."""
    try:
        config = model_config(**checkpoint.config)
    except (EegenError, TypeError) as error:
        raise EegenError(f"checkpoint {checkpoint.path} is of no model that this eegen knows: {error}") from None
    if config.vocab_size != len(checkpoint.vocabulary) + 1:
        raise EegenError(f"checkpoint {checkpoint.path} is damaged: its vocabulary does not fit its configuration")
    return config


def state_of(checkpoint: Checkpoint, plan: Plan, weights_only: bool) -> State:
    """What a session starts from. The tensors must be those of the plan."""
    from eegen.run.checkpoint import check_shapes

    expected = {
        part.name: ((part.stop - part.start, *p.shape[1:]) if len(p.shape) > 1 else p.shape)
        for p in plan.parameters
        for part in p.parts
    }
    check_shapes(checkpoint, expected)
    if weights_only:
        return State(checkpoint.tensors, {}, None)
    try:
        kept = {field.name: int(checkpoint.training[field.name]) for field in dataclasses.fields(Counters)}
        return State(checkpoint.tensors, checkpoint.optimizer, Counters(**kept))
    except (KeyError, TypeError, ValueError) as error:
        raise _no_training(checkpoint, error) from None


def progress_of(checkpoint: Checkpoint) -> tuple[TrainOptions, Position]:
    """The options of a run and how far it was."""
    known = {field.name for field in dataclasses.fields(TrainOptions)}
    kept: Mapping[str, Any] = checkpoint.training
    try:
        options = TrainOptions(**{name: value for name, value in kept["options"].items() if name in known})
        return options, Position(int(kept["done"]), float(kept["seconds"]), deque(kept["recent"], RECENT))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_training(checkpoint, error) from None


def seed_of(checkpoint: Checkpoint) -> int:
    options = checkpoint.training.get("options")
    return int(options.get("seed", 42)) if isinstance(options, dict) else 42


def _no_training(checkpoint: Checkpoint, error: Exception) -> EegenError:
    return EegenError(f"checkpoint {checkpoint.path} does not say where its training was ({error!r})")
