"""A model as a notebook sees it: compiled, with its data and weights, ready to train, evaluate, sample and save.

    import eegen

    model = eegen.Model(d_model=64)              # the bundled names, the best target of this machine
    run = model.train(steps=2000, lr=0.005)
    run.loss                                     # the loss of each step, an array
    model.parameters["layers.0.wq"]              # a view of the memory that training writes
    model.sample(5, prefix="ma")
    model.save("names.safetensors")
    model = eegen.load("names.safetensors")

The command line does all it does through this.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.models import FITS
from eegen.models.config import ModelConfig, model_config
from eegen.run import inference as reading
from eegen.run.compiled import Compiled, Output, compile_model
from eegen.run.data import Dataset, build_dataset, load_documents, split, vocabulary
from eegen.run.engine import Engine
from eegen.run.inference import Sampling
from eegen.run.session import Session
from eegen.train import loop as trainer
from eegen.train import saving
from eegen.train.log import Journal
from eegen.train.loop import Chunk, Position, TrainOptions, train_options
from eegen.train.saving import Saver, State

if TYPE_CHECKING:
    from eegen.run.checkpoint import Checkpoint

Data = str | os.PathLike[str] | Sequence[str] | None
Views = dict[str, NDArray[np.float32]]


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


class Model:
    """One model compiled for one target, with its data and its weights."""

    def __init__(
        self,
        model: str = "gpt",
        *,
        data: Data = None,
        target: str = "auto",
        seed: int = 42,
        optimizer: str = "adam",
        svl_bits: int | None = None,
        emulate: bool = False,
        cc: str | None = None,
        **options: Any,
    ) -> None:
        """Compile a model for the vocabulary of `data`: a file of one document a line, or a list of documents.

        `options` are those of the model: d_model, n_heads, n_layers, d_ff, block_size, activation, ... The first
        weights are drawn from `seed`.
        """
        documents = documents_of(data)
        chars = vocabulary(documents)
        config = model_config(model, **{**options, "vocab_size": len(chars) + 1})
        kind: Output = "server" if emulate else "library"
        compiled = compile_model(config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind=kind)
        self._begin(compiled, emulate, chars, documents, path_of(data), seed)

    @classmethod
    def of_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        data: Data = None,
        target: str = "auto",
        svl_bits: int | None = None,
        emulate: bool = False,
        cc: str | None = None,
        weights_only: bool = False,
        seed: int | None = None,
        optimizer: str | None = None,
    ) -> Model:
        """The model of a checkpoint, with its weights and, unless `weights_only`, where its training was.

        Without `data` it is the data that the checkpoint was trained on, looked for when they are needed.
        """
        config, chars = saving.config_of(checkpoint), checkpoint.vocabulary
        trained = checkpoint.training
        chosen = (optimizer or "adam") if weights_only else str(trained.get("optimizer", "adam"))
        documents = None if data is None else documents_of(data)
        kind: Output = "server" if emulate else "library"
        compiled = compile_model(config, target, optimizer=chosen, svl_bits=svl_bits, cc=cc, kind=kind)
        state = saving.state_of(checkpoint, compiled.plan, weights_only)
        model = cls.__new__(cls)
        path = trained.get("data") if data is None else path_of(data)
        model._begin(compiled, emulate, chars, documents, path, seed or saving.seed_of(checkpoint))
        model._state = state
        model._trained_on = trained.get("data_digest")
        if not weights_only:
            model.options, model.position = saving.progress_of(checkpoint)
        return model

    def _begin(
        self,
        compiled: Compiled,
        emulate: bool,
        chars: str,
        documents: list[str] | None,
        data_path: str | None,
        seed: int,
    ) -> None:
        self.compiled, self.emulate, self.chars = compiled, emulate, chars
        self._documents, self.data_path = documents, data_path
        self.options = train_options(self.optimizer, seed=seed)
        self.position = Position()
        self._trained_on: str | None = None
        self._session: Session | None = None
        self._split: float | None = None
        self._room = (0, 0)
        self._state: State | None = None

    # --- what it is -------------------------------------------------------------------------------

    @property
    def config(self) -> ModelConfig:
        return self.compiled.plan.build.model

    @property
    def documents(self) -> list[str]:
        """The data. Those of a checkpoint are read when they are first asked for."""
        if self._documents is None:
            documents = load_documents(Path(self.data_path) if self.data_path else None)
            if not self.data_path and self._trained_on and saving.digest(documents) != self._trained_on:
                raise EegenError("this checkpoint was trained on documents of no file: give them as data")
            self._documents = documents
        return self._documents

    @property
    def same_data(self) -> bool:
        """Whether the data are those that the checkpoint was trained on."""
        return saving.digest(self.documents) == self._trained_on

    @property
    def target(self) -> str:
        return self.compiled.plan.target.name

    @property
    def optimizer(self) -> str:
        return self.compiled.plan.build.optimizer

    @property
    def params(self) -> int:
        """Trained numbers."""
        return self.compiled.plan.count

    @property
    def source(self) -> str:
        """The generated C."""
        return self.compiled.build.source_path.read_text(encoding="utf-8")

    @property
    def parameters(self) -> Views:
        """Every tensor [out][in] by name: views of the memory that training writes, nothing is copied.

        They stay valid until a later `train` needs more room (a larger batch, more threads) or other data.
        """
        return self.session.parameters

    @property
    def gradients(self) -> Views:
        """The gradients of the last step or of `loss_and_gradients`, as views."""
        return self.session.gradients

    @property
    def session(self) -> Session:
        """The compiled functions on their memory; see eegen/runtime.py."""
        if self._session is None:
            try:
                self._open(self.options)
            except EegenError:
                if self._documents is not None or self._state is None:
                    raise
                # A checkpoint can be looked at where its data are gone.
                self._start(self.options, build_dataset([self.chars[:1]], self.chars, self.config.block_size))
                self._room = (0, 0)
        assert self._session is not None
        return self._session

    def __repr__(self) -> str:
        return f"<eegen.Model {self.config.title}: {self.params:,} parameters, {self.target}>"

    # --- work ---------------------------------------------------------------------------------------

    def train(
        self,
        steps: int | None = None,
        *,
        resume: bool = False,
        save: str | os.PathLike[str] | None = None,
        log: str | os.PathLike[str] | None = None,
        on_chunk: Callable[[Chunk], None] | None = None,
        **options: Any,
    ) -> Run:
        """Train; `options` are the fields of `eegen.trainer.TrainOptions` except the seed, which is the model's.

        Each call has a schedule of its own and keeps the optimizer's state. With `resume` it goes on with the
        schedule of the last call, or of the checkpoint, where that was stopped; options not given stay as they were.
        `save` is written at the end, every minute, and on Ctrl-C, which ends the run early.
        """
        self.options = self._train_options(resume, {"steps": steps, **options})
        if not resume:
            self.position = Position()
        elif reason := trainer.finished(self.options, self.position):
            raise EegenError(f"nothing is left of this run: {reason}")
        saver = None
        if save is not None:
            from eegen.run.checkpoint import check_destination

            check_destination(Path(save))
            saver = Saver(self, Path(save))
        session = self._open(self.options)
        validation = self._validation(self.options)
        journal = Journal(Path(log), self.position.done if resume else 0) if log is not None else None

        def watch(chunk: Chunk) -> None:
            if journal:
                journal.write(chunk)
            if saver:
                saver.now_and_then(chunk)
            if on_chunk:
                on_chunk(chunk)

        try:
            with trainer.interrupts() as interrupted:
                outcome = trainer.run(session, self.options, self.position, watch, interrupted)
        finally:
            if journal:
                journal.close()
        self._refuse_ruin(outcome.losses, outcome.stopped, saver)
        if saver:
            saver.save()
        val_loss = None
        if validation is not None and outcome.stopped != "interrupted":
            val_loss = reading.loss(self.compiled.plan, self._engine(), self._weights, validation)
        return Run(
            loss=outcome.losses,
            mean_loss=self.position.loss,
            val_loss=val_loss,
            steps=self.position.done,
            seconds=self.position.seconds,
            us_per_step=outcome.us_per_step,
            breakdown_us=outcome.breakdown_us,
            stopped=outcome.stopped,
            checkpoint=saver.path if saver else None,
        )

    def evaluate(self, data: Data = None) -> float:
        """The exact mean loss a position over every document of `data`, by default all of the model's own."""
        documents = self.documents if data is None else documents_of(data)
        every = build_dataset(documents, self.chars, self.config.block_size)
        return reading.loss(self.compiled.plan, self._engine(), self._weights, every)

    def loss_and_gradients(self, documents: Sequence[int]) -> float:
        """The mean loss over some documents of the training data, by number; `gradients` are those of that loss."""
        numbers, most, last = np.asarray(documents, np.int64), self.options.batch, len(self.documents) - 1
        if not 1 <= len(numbers) <= most or numbers.min() < 0 or numbers.max() > last:
            raise EegenError(
                f"loss_and_gradients takes 1 to {most} numbers from 0 to {last}, not {list(documents)[:9]}"
            )
        return self.session.gradient(numbers.astype(np.int32))

    def sample(self, n: int = 10, *, temperature: float = 0.5, prefix: str = "", seed: int = 42) -> list[str]:
        """`n` new documents that begin with `prefix`."""
        how = Sampling(n, temperature, prefix, seed)
        return reading.sample(self.compiled.plan, self._engine(), self._weights, self.chars, how)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a checkpoint: weights, optimizer state, configuration, vocabulary, and where training was."""

        saving.write(self, Path(path))
        return Path(path)

    @property
    def _weights(self) -> Mapping[str, NDArray[np.float32]]:
        """The weights to read: those of a checkpoint need no session yet."""
        return self._state.weights if self._state and not self._session else self.session.parameters

    @property
    def finite(self) -> bool:
        """Whether every weight is a number."""
        return all(np.isfinite(view).all() for view in self.session.parameters.values())

    def close(self) -> None:
        """Let go of the memory, and of the process where the target is emulated. The weights stay."""
        self._let_go()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    # --- sessions -------------------------------------------------------------------------------------

    def _engine(self) -> Engine:
        return self.compiled.open_engine()

    def _open(self, options: TrainOptions) -> Session:
        """A session set to these options: the one at hand where it has room, else one that takes over its state."""
        session = self._with_room(options)
        session.settings = options.step_settings
        return session

    def _with_room(self, options: TrainOptions) -> Session:
        session = self._session
        if session is None or not self._fits(options):
            return self._start(options, self._training_data(options))
        session.configure(options.batch, options.threads, options.order == "random")
        return session

    def _start(self, options: TrainOptions, data: Dataset) -> Session:
        """A new session, which takes over the state of the one at hand, or of a checkpoint."""
        session = Session(
            self.compiled.plan,
            self._engine(),
            data,
            **options.session,
            chunk=trainer.CHUNK_STEPS,
        )
        session.init()
        self._let_go()
        if self._state is not None:
            self._state.put(session)
            self._state = None
        self._session, self._split, self._room = session, options.val, (options.batch, options.threads)
        return session

    def _let_go(self) -> None:
        if self._session is not None:
            self._state = State.of(self._session)
            self._session.engine.close()
            self._session = None

    def _training_data(self, options: TrainOptions) -> Dataset:
        documents = self.documents
        if options.val is not None:
            documents, _ = split(documents, options.val, options.seed)
        return build_dataset(documents, self.chars, self.config.block_size)

    def _fits(self, options: TrainOptions) -> bool:
        """Whether the session at hand can train so: its data are the same and its memory is large enough."""
        assert self._session is not None
        same = self._split == options.val and self._session.sharing == options.sharing
        return same and options.batch <= self._room[0] and options.threads <= self._room[1]

    def _validation(self, options: TrainOptions) -> Dataset | None:
        if options.val is None:
            return None
        _, held_out = split(self.documents, options.val, options.seed)
        return build_dataset(held_out, self.chars, self.config.block_size)

    # --- training state ---------------------------------------------------------------------------------

    def _train_options(self, resume: bool, given: Mapping[str, Any]) -> TrainOptions:
        known = {field.name for field in dataclasses.fields(TrainOptions)} - {"seed", "optimizer"}
        if unknown := [name for name in given if name not in known]:
            raise TypeError(f"train() has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
        chosen = {name: value for name, value in given.items() if value is not None}
        idle = [name for name in chosen if name not in ("val", "threads", "sharing")]
        if idle and self.config.model in FITS:
            raise EegenError(f"`{idle[0]}` means nothing to the model '{self.config.model}', which is not trained")
        fresh = train_options(self.optimizer, seed=self.options.seed, **chosen)
        if not resume:
            return fresh
        before = dataclasses.asdict(self.options)
        if "time" in chosen and "steps" not in chosen:
            before["steps"] = None
        return TrainOptions(**{**before, **chosen})

    def _refuse_ruin(self, losses: NDArray[np.float32], stopped: str, saver: Saver | None) -> None:
        """A run whose loss or weights are not finite ends as an error; a checkpoint of better days is left alone."""
        if stopped == "diverged":
            step, what = self.position.done + 1, f"the loss is {losses[-1]:g}"
        elif not self.finite:
            step, what = self.position.done, "weights are no longer finite"
        else:
            return
        kept = f"; {saver.path} keeps the last good checkpoint" if saver and saver.path.exists() else ""
        hint = f"; a lower `lr` than {self.options.lr:g} may help"
        raise EegenError(f"stopped at step {step}: {what}{kept}", lr=hint)


def load(path: str | os.PathLike[str], **options: Any) -> Model:
    """The model of a checkpoint, to train on, evaluate and sample; `options` as for `Model`: data, target, cc."""
    from eegen.run import checkpoint

    return Model.of_checkpoint(checkpoint.load(Path(path)), **options)


def documents_of(data: Data) -> list[str]:
    if data is None or isinstance(data, str | os.PathLike):
        return load_documents(None if data is None else Path(data))
    return list(data)


def path_of(data: Data) -> str | None:
    """Where data came from, for a checkpoint to say: a path, or nothing for the bundled names and for a list."""
    return os.path.abspath(data) if isinstance(data, str | os.PathLike) else None
