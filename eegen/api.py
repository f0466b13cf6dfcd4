"""A model as a notebook sees it: compiled, with its data and weights, ready to train, evaluate, sample and save.

import eegen

model = eegen.Model(d_model=64)              # the bundled names, the best target of this machine
run = model.train(steps=2000, lr=0.005)
run.loss                                     # the loss of each step, an array
model.parameters["layers.0.wq"]              # a view of the memory that training writes
model.sample(5, prefix="ma")
model.save("names.safetensors")
model = eegen.load("names.safetensors")
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eegen import trainer
from eegen.compile import Compiled, compile_model
from eegen.config import ModelConfig, flag, model_config
from eegen.data import Dataset, build_dataset, load_documents, split, vocabulary
from eegen.errors import EegenError
from eegen.journal import Journal
from eegen.models import FITS
from eegen.runtime import Engine, Library, Session
from eegen.trainer import STEP_OPTIONS, Chunk, Position, TrainOptions, train_options

if TYPE_CHECKING:
    from eegen.checkpoint import Checkpoint
    from eegen.toolchain import Kind

Data = str | os.PathLike[str] | Sequence[str] | None
Views = dict[str, NDArray[np.float32]]

EVALUATION_BYTES = 48 << 20  # row buffers for evaluating: the more documents at once, the more rows they share
SAVE_EVERY = 60.0  # seconds
COLDEST = 1e-30  # a lower temperature would overflow, and picks the same characters


@dataclass(frozen=True)
class Sampling:
    """What to sample."""

    n: int = 20
    temperature: float = 0.5
    prefix: str = ""
    seed: int = 42

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 1_000_000:
            raise EegenError(f"-n is {self.n}; it must be 1 to 1000000")
        if not 0 < self.temperature < math.inf:
            raise EegenError(f"--temperature is {self.temperature:g}; it must be a number above 0")
        if not 1 <= self.seed <= trainer.MAX_SEED:
            raise EegenError(f"--seed is {self.seed}; it must be 1 to {trainer.MAX_SEED}")


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
        source = _source_of(data)
        self._begin(
            config,
            documents,
            chars,
            source,
            seed,
            _build(config, chars, target, optimizer, svl_bits, emulate, cc),
            emulate,
        )

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
        """The model of a checkpoint, with its weights and, unless `weights_only`, where its training was."""
        config = config_of(checkpoint)
        kept = checkpoint.training
        source = _source_of(data) if data is not None else kept.get("data")
        built_with = str(kept.get("optimizer", "adam"))
        chosen = (optimizer or "adam") if weights_only else built_with
        model = cls.__new__(cls)
        model._begin(
            config,
            documents_of(source if data is None else data),
            checkpoint.vocabulary,
            source,
            seed if seed is not None else int(kept.get("options", {}).get("seed", 42)),
            _build(config, checkpoint.vocabulary, target, chosen, svl_bits, emulate, cc),
            emulate,
        )
        model._take(checkpoint, weights_only)
        return model

    def _begin(
        self,
        config: ModelConfig,
        documents: list[str],
        chars: str,
        source: str | None,
        seed: int,
        compiled: Compiled,
        emulate: bool,
    ) -> None:
        self.config, self.documents, self.chars, self.data_path = config, documents, chars, source
        self.compiled, self.emulate = compiled, emulate
        self.options = train_options(self.optimizer, seed=seed)
        self.position = Position()
        self._session: Session | None = None
        self._split: float | None = None
        self._state: _State | None = None

    # --- what it is -------------------------------------------------------------------------------

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
        return self._session or self._open(self.options)

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
            from eegen.checkpoint import check_destination

            check_destination(Path(save))
            saver = _Saver(self, Path(save))
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
            val_loss = self._loss(validation)
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
        return self._loss(build_dataset(documents, self.chars, self.config.block_size))

    def loss_and_gradients(self, documents: Sequence[int]) -> float:
        """The mean loss over some documents of the training data, by number; `gradients` are those of that loss."""
        return self.session.gradient(np.asarray(documents, np.int32))

    def sample(self, n: int = 10, *, temperature: float = 0.5, prefix: str = "", seed: int = 42) -> list[str]:
        """`n` new documents that begin with `prefix`."""
        how = Sampling(n, temperature, prefix, seed)
        tokens = self.encode(how.prefix)
        block = self.config.block_size
        if len(tokens) >= block:
            raise EegenError(f"the prefix has {len(tokens)} characters; the model's block is {block}: give fewer")
        alone = build_dataset([self.chars[:1]], self.chars, block)
        batch = min(how.n, self._evaluation_batch(block))
        session = Session(self.compiled.plan, self._engine(), alone, batch=batch, longest=block)
        self._lend(session)
        drawn = session.sample(how.n, max(how.temperature, COLDEST), tokens, how.seed)
        session.engine.close()
        return ["".join(self.chars[i] for i in sample) for sample in drawn]

    def encode(self, text: str) -> list[int]:
        known = {c: i for i, c in enumerate(self.chars)}
        if unknown := sorted(set(text) - known.keys()):
            named = ", ".join(map(repr, unknown))
            raise EegenError(f"the prefix {text!r} has {named}, which the model does not know; it knows {self.chars!r}")
        return [known[c] for c in text]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a checkpoint: weights, optimizer state, configuration, vocabulary, and where training was."""
        from eegen import checkpoint

        session = self.session
        for name, view in session.parameters.items():
            if not np.isfinite(view).all():
                raise EegenError(f"{name} holds numbers that are not finite, so {path} was not written")
        training = {
            "optimizer": self.optimizer,
            "options": dataclasses.asdict(self.options),
            "done": self.position.done,
            # Where the clock has no say, the same run gives the same bytes.
            "seconds": self.position.seconds if self.options.time is not None else 0.0,
            "recent": list(self.position.recent),
            "step": int(session.header["step"]),
            "rng": int(session.header["rng"]),
            "cursor": int(session.header["cursor"]),
            "data": self.data_path,
            "data_digest": self._data_digest(),
            "target": self.target,
        }
        metadata = {"config": self.config.as_dict(), "vocabulary": self.chars, "training": training}
        checkpoint.save(Path(path), session.parameters, session.optimizer, metadata)
        return Path(path)

    def close(self) -> None:
        """Let go of the memory, and of the process where the target is emulated."""
        if self._session is not None:
            self._state = _State.of(self._session)
            self._session.engine.close()
            self._session = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    # --- sessions -------------------------------------------------------------------------------------

    def _engine(self) -> Engine:
        if self.emulate:
            from eegen.emulate import EmulatedEngine
            from eegen.toolchain import emulator

            return EmulatedEngine(self.compiled.build.path, emulator(self.compiled.plan.target))
        return Library(self.compiled.build.path)

    def _open(self, options: TrainOptions) -> Session:
        """A session set to these options: the one at hand where it has room, else one that takes over its state."""
        session = self._with_room(options)
        for name in STEP_OPTIONS:
            session.header[name] = getattr(options, name)
        return session

    def _with_room(self, options: TrainOptions) -> Session:
        old = self._session
        if old is not None and self._fits(options):
            old.header["batch"], old.header["threads"] = options.batch, options.threads
            old.header["random"] = options.order == "random"
            return old
        if old is not None:
            self._state = _State.of(old)
        documents = self.documents
        if options.val is not None:
            documents, _ = split(documents, options.val, options.seed)
        session = Session(
            self.compiled.plan,
            self._engine(),
            build_dataset(documents, self.chars, self.config.block_size),
            batch=options.batch,
            seed=options.seed,
            random=options.order == "random",
            sharing=options.sharing,
            threads=options.threads,
            chunk=trainer.CHUNK_STEPS,
        )
        session.init()
        if self._state is not None:
            self._state.put(session)
            self._state = None
        if old is not None:
            old.engine.close()
        self._session, self._split, self._room = session, options.val, (options.batch, options.threads)
        return session

    def _fits(self, options: TrainOptions) -> bool:
        """Whether the session at hand can train so: its data are the same and its memory is large enough."""
        assert self._session is not None
        same = self._split == options.val and self._session.header["sharing"] == options.sharing
        return same and options.batch <= self._room[0] and options.threads <= self._room[1]

    def _lend(self, session: Session) -> None:
        """The weights of training, copied for reading."""
        weights = self._state.weights if self._state and not self._session else self.session.parameters
        for name, view in session.parameters.items():
            view[:] = weights[name]

    def _loss(self, data: Dataset) -> float:
        batch = min(self._evaluation_batch(data.longest), len(data.documents))
        session = Session(self.compiled.plan, self._engine(), data, batch=batch)
        self._lend(session)
        loss = session.loss()
        session.engine.close()
        return loss

    def _evaluation_batch(self, longest: int) -> int:
        """Documents at once for which the row buffers stay within `EVALUATION_BYTES`."""
        keys = longest + 8
        row = sum(ld * (keys if domain == "keys" else 1) for domain, ld in self.compiled.plan.slots) + 2 * keys
        return max(1, min(1024, EVALUATION_BYTES // (4 * row * longest)))

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
            raise EegenError(f"{flag(idle[0])} means nothing to the model '{self.config.model}', which is not trained")
        fresh = train_options(self.optimizer, seed=self.options.seed, **chosen)
        if not resume:
            return fresh
        before = dataclasses.asdict(self.options)
        if "time" in chosen and "steps" not in chosen:
            before["steps"] = None
        return TrainOptions(**{**before, **chosen})

    def _take(self, checkpoint: Checkpoint, weights_only: bool) -> None:
        from eegen.checkpoint import check_shapes

        expected = {
            part.name: ((part.stop - part.start, *p.shape[1:]) if len(p.shape) > 1 else p.shape)
            for p in self.compiled.plan.parameters
            for part in p.parts
        }
        check_shapes(checkpoint, expected)
        if weights_only:
            self._state = _State(checkpoint.tensors, {}, {})
            return
        kept = checkpoint.training
        try:
            known = {field.name for field in dataclasses.fields(TrainOptions)}
            self.options = TrainOptions(**{k: v for k, v in kept["options"].items() if k in known})
            self.position = Position(int(kept["done"]), float(kept["seconds"]))
            self.position.recent = deque(kept["recent"], trainer.RECENT)
            counters = {name: int(kept[name]) for name in ("step", "rng", "cursor")}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EegenError(f"checkpoint {checkpoint.path} does not say where its training was ({error!r})") from None
        self._state = _State(checkpoint.tensors, checkpoint.optimizer, counters)
        self.same_data = kept.get("data_digest") == self._data_digest()

    def _data_digest(self) -> str:
        return hashlib.sha256("\n".join(self.documents).encode("utf-8", "surrogatepass")).hexdigest()

    def _refuse_ruin(self, losses: NDArray[np.float32], stopped: str, saver: _Saver | None) -> None:
        """A run whose loss or weights are not finite ends as an error; a checkpoint of better days is left alone."""
        if stopped == "diverged":
            step, what = self.position.done + 1, f"the loss is {losses[-1]:g}"
        elif not all(np.isfinite(view).all() for view in self.session.parameters.values()):
            step, what = self.position.done, "weights are no longer finite"
        else:
            return
        kept = f"; {saver.path} keeps the last good checkpoint" if saver and saver.path.exists() else ""
        raise EegenError(f"stopped at step {step}: {what}; a lower --lr than {self.options.lr:g} may help{kept}")


def load(path: str | os.PathLike[str], **options: Any) -> Model:
    """The model of a checkpoint, to train on, evaluate and sample; `options` as for `Model`: data, target, cc."""
    from eegen import checkpoint

    return Model.of_checkpoint(checkpoint.load(Path(path)), **options)


def documents_of(data: Data) -> list[str]:
    if data is None or isinstance(data, str | os.PathLike):
        return load_documents(None if data is None else Path(data))
    return list(data)


def config_of(checkpoint: Checkpoint) -> ModelConfig:
    """The configuration in a checkpoint, checked as a user's would be."""
    try:
        config = model_config(**checkpoint.config)
    except (EegenError, TypeError) as error:
        raise EegenError(f"checkpoint {checkpoint.path} is of no model that this eegen knows: {error}") from None
    if config.vocab_size != len(checkpoint.vocabulary) + 1:
        raise EegenError(f"checkpoint {checkpoint.path} is damaged: its vocabulary does not fit its configuration")
    return config


def _build(
    config: ModelConfig, chars: str, target: str, optimizer: str, svl_bits: int | None, emulate: bool, cc: str | None
) -> Compiled:
    kind: Kind = "program" if emulate else "library"
    return compile_model(config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind=kind, chars=chars)


def _source_of(data: Data) -> str | None:
    """Where data came from, for a checkpoint to say: a path, or nothing for the bundled names and for a list."""
    return os.path.abspath(data) if isinstance(data, str | os.PathLike) else None


@dataclass(frozen=True)
class _State:
    """All of a session that training changes, by name."""

    weights: Mapping[str, NDArray[np.float32]]
    optimizer: Mapping[str, NDArray[np.float32]]
    counters: Mapping[str, int]

    @classmethod
    def of(cls, session: Session) -> _State:
        return cls(
            {name: view.copy() for name, view in session.parameters.items()},
            {name: view.copy() for name, view in session.optimizer.items()},
            {name: int(session.header[name]) for name in ("step", "rng", "cursor")},
        )

    def put(self, session: Session) -> None:
        for name, view in session.parameters.items():
            view[:] = self.weights[name]
        for name, view in session.optimizer.items():
            view[:] = self.optimizer.get(name, 0)
        for name, value in self.counters.items():
            session.header[name] = value
        session.header["cursor"] %= len(session.data.documents)


class _Saver:
    """Saves a model at the end and every minute, or less often where saving takes long."""

    def __init__(self, model: Model, path: Path) -> None:
        self.model, self.path = model, path
        self.due = time.monotonic() + SAVE_EVERY

    def now_and_then(self, chunk: Chunk) -> None:
        if time.monotonic() >= self.due and np.isfinite(chunk.losses).all():
            began = time.monotonic()
            self.save()
            now = time.monotonic()
            self.due = now + max(SAVE_EVERY, 20 * (now - began))

    def save(self) -> None:
        self.model.save(self.path)
