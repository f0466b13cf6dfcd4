"""One call of `Model.train`: the loop with its log, its checkpoints and the validation loss at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.run import checkpoint, inference
from eegen.run.session import Session
from eegen.train import loop, saving
from eegen.train.interrupts import interrupts
from eegen.train.log import StepLog
from eegen.train.loop import Chunk, Outcome, Position
from eegen.train.options import TrainOptions
from eegen.train.saving import Saver
from eegen.train.sessions import Sessions


@dataclass(frozen=True)
class Run:
    """What a call of `Model.train` did."""

    loss: NDArray[np.float32]  # of each step
    mean_loss: float  # of the last 100 steps
    val_loss: float | None  # of every held-out document
    steps: int  # of the schedule, those of an earlier run that this one resumed included
    seconds: float
    us_per_step: float
    breakdown_us: dict[str, float]  # batch, forward, backward, update
    stopped: str  # done, reached (the loss asked for) or interrupted
    checkpoint: Path | None


def train(
    sessions: Sessions,
    options: TrainOptions,
    position: Position,
    *,
    resume: bool = False,
    save: Path | None = None,
    log: Path | None = None,
    on_chunk: Callable[[Chunk], None] | None = None,
) -> Run:
    """Train from `position`, which is updated; `resume` says that the log goes on too."""
    if save is not None:
        checkpoint.check_destination(save)
    session = sessions.open(options)
    corpus = sessions.corpus
    validation = corpus.validation_set(options.val, options.seed)
    write = partial(saving.write, session=session, corpus=corpus, options=options, position=position)
    saver = Saver(save, session, write) if save is not None else None
    step_log = StepLog(log, position.done if resume else 0) if log is not None else None

    def watch(chunk: Chunk) -> None:
        if step_log:
            step_log.write(chunk)
        if saver:
            saver.save_if_due(chunk)
        if on_chunk:
            on_chunk(chunk)

    try:
        with interrupts() as interrupted:
            outcome = loop.run(session, options, position, watch, interrupted)
    finally:
        if step_log:
            step_log.close()
    check_finite(outcome, session, options, position, save)
    if saver:
        saver.save()
    val_loss = None
    if validation is not None and outcome.stopped != "interrupted":
        val_loss = inference.loss(sessions.programs.infer, session.parameters, validation)
    return Run(
        loss=outcome.losses,
        mean_loss=position.loss,
        val_loss=val_loss,
        steps=position.done,
        seconds=position.seconds,
        us_per_step=outcome.us_per_step,
        breakdown_us=outcome.breakdown_us,
        stopped=outcome.stopped,
        checkpoint=save,
    )


def check_finite(
    outcome: Outcome, session: Session, options: TrainOptions, position: Position, save: Path | None
) -> None:
    """Raise an error after a run whose loss or weights are not finite. Its checkpoint keeps what was last saved."""
    if outcome.stopped == "diverged":
        step, what = position.done + 1, f"the loss is {outcome.losses[-1]:g}"
    elif session.not_finite:
        step, what = position.done, "weights are no longer finite"
    else:
        return
    kept = f"; {save} keeps the last good checkpoint" if save and save.exists() else ""
    hint = f"; a lower `lr` than {options.lr:g} may help"
    raise EegenError(f"stopped at step {step}: {what}{kept}", lr=hint)
