"""A training run in a checkpoint and back: everything it needs to go on as if it had not stopped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from eegen.errors import EegenError
from eegen.models import tensor_shapes
from eegen.models.config import ModelConfig, model_config
from eegen.run import checkpoint as files
from eegen.run.checkpoint import Checkpoint
from eegen.run.corpus import Corpus
from eegen.run.header import Counters
from eegen.run.session import Session
from eegen.run.state import State
from eegen.train.loop import RECENT, Chunk, Position
from eegen.train.options import TrainOptions

SAVE_EVERY = 60.0  # seconds

# --- writing


def write(path: Path, session: Session, corpus: Corpus, options: TrainOptions, position: Position) -> None:
    """Write the checkpoint of a run. The same run always writes the same bytes."""
    if name := session.not_finite:
        raise EegenError(f"{name} holds numbers that are not finite, so {path} was not written")
    build = session.plan.build
    training = {
        "optimizer": build.optimizer,
        "options": asdict(options),
        "done": position.done,
        "seconds": position.seconds if options.time is not None else 0.0,
        "recent": list(position.recent),
        **session.counters._asdict(),
        "data": corpus.path,
        "data_digest": corpus.digest,
        "target": build.target,
    }
    metadata = {"config": build.model.as_dict(), "vocabulary": corpus.chars, "training": training}
    files.save(path, session.parameters, session.optimizer, metadata)


class Saver:
    """Saves every minute during training, or less often where saving takes long; and whenever asked to."""

    def __init__(self, path: Path, session: Session, write: Callable[[Path], None]) -> None:
        self.path, self.session, self.write = path, session, write
        self.due = time.monotonic() + SAVE_EVERY

    def save_if_due(self, chunk: Chunk) -> None:
        """Save if it is time, unless the run is about to fail."""
        if time.monotonic() >= self.due and np.isfinite(chunk.losses).all() and not self.session.not_finite:
            began = time.monotonic()
            self.save()
            now = time.monotonic()
            self.due = now + max(SAVE_EVERY, 20 * (now - began))

    def save(self) -> None:
        self.write(self.path)


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


def state_of(checkpoint: Checkpoint, config: ModelConfig, weights_only: bool) -> State:
    """The state that a session starts from. The tensors must be those of the model."""
    files.check_shapes(checkpoint, tensor_shapes(config))
    if weights_only:
        return State(checkpoint.tensors, {}, None)
    try:
        counters = Counters(*(int(checkpoint.training[name]) for name in Counters._fields))
    except (KeyError, TypeError, ValueError) as error:
        raise _without_progress(checkpoint, error) from None
    return State(checkpoint.tensors, checkpoint.optimizer, counters)


def progress_of(checkpoint: Checkpoint) -> tuple[TrainOptions, Position]:
    """The options of a run and how far it was."""
    known = {field.name for field in fields(TrainOptions)}
    kept: Mapping[str, Any] = checkpoint.training
    try:
        options = TrainOptions(**{name: value for name, value in kept["options"].items() if name in known})
        return options, Position(int(kept["done"]), float(kept["seconds"]), deque(kept["recent"], RECENT))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _without_progress(checkpoint, error) from None


def seed_of(checkpoint: Checkpoint) -> int:
    options = checkpoint.training.get("options")
    return int(options.get("seed", 42)) if isinstance(options, dict) else 42


def _without_progress(checkpoint: Checkpoint, error: Exception) -> EegenError:
    return EegenError(f"checkpoint {checkpoint.path} does not say where its training was ({error!r})")
