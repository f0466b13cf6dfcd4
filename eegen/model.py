"""A model as a notebook sees it: compiled, with its data and weights, ready to train, evaluate, sample and save.

    import eegen

    model = eegen.Model(d_model=64)              # the bundled names, the best target of this machine
    run = model.train(steps=2000, lr=0.005)
    run.loss                                     # the loss of each step, an array
    model.parameters["layers.0.wq"]              # a view of the memory that training writes
    model.sample(5, prefix="ma")
    model.save("names.safetensors")
    model = eegen.load("names.safetensors")

The command line works through this class. Behind it are compiling in run/model_builds.py, sessions in run/session.py
and train/sessions.py, training in train/training.py, checkpoints in train/saving.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.models import tensor_shapes
from eegen.models.config import model_config
from eegen.run import checkpoint as files
from eegen.run import inference
from eegen.run.checkpoint import Checkpoint
from eegen.run.corpus import Corpus, Data, documents_of, path_of
from eegen.run.data import vocabulary
from eegen.run.inference import Sampling
from eegen.run.model_builds import Compiled, Programs
from eegen.run.session import Session
from eegen.run.state import State, Tensors
from eegen.train import loop, saving, training
from eegen.train.loop import Chunk, Position
from eegen.train.options import options_of_call, train_options
from eegen.train.sessions import Sessions
from eegen.train.training import Run

__all__ = ["Data", "Model", "Run", "load"]

Views = dict[str, NDArray[np.float32]]


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
        kind = "server" if emulate else "library"
        programs = Programs(config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind=kind)
        self._set_up(programs, Corpus(chars, config.block_size, documents, path_of(data)), seed)
        self.emulate = emulate
        _ = self.compiled  # so that an option that is wrong is refused here

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
        """The model of a checkpoint, with its weights and, unless `weights_only`, the progress of its training.

        Without `data` it is the data that the checkpoint was trained on, read when they are needed.
        """
        config, kept = saving.config_of(checkpoint), checkpoint.training
        optimizer = (optimizer or "adam") if weights_only else str(kept.get("optimizer", "adam"))
        kind = "server" if emulate else "library"
        programs = Programs(config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind=kind)
        documents = None if data is None else documents_of(data)
        path = kept.get("data") if data is None else path_of(data)
        corpus = Corpus(checkpoint.vocabulary, config.block_size, documents, path, kept.get("data_digest"))
        state = saving.state_of(checkpoint, config, weights_only)
        model = cls.__new__(cls)
        model._set_up(programs, corpus, seed or saving.seed_of(checkpoint), state)
        model.emulate = emulate
        if not weights_only:
            model.options, model.position = saving.progress_of(checkpoint)
        return model

    def _set_up(self, programs: Programs, corpus: Corpus, seed: int, state: State | None = None) -> None:
        self.programs, self.corpus = programs, corpus
        self.config, self.target, self.optimizer = programs.config, programs.target, programs.optimizer
        self.data_path = corpus.path
        self.sessions = Sessions(programs, corpus, state)
        self.options = train_options(self.optimizer, seed=seed)  # of the last call of `train`
        self.position = Position()  # where that call stopped

    # --- what it is

    @property
    def compiled(self) -> Compiled:
        """The plan of the program that trains, and what the compiler made of it."""
        return self.programs.train

    @property
    def params(self) -> int:
        """Trained numbers."""
        return sum(math.prod(shape) for shape in tensor_shapes(self.config).values())

    @property
    def source(self) -> str:
        """The generated C."""
        return self.compiled.build.source_path.read_text(encoding="utf-8")

    @property
    def chars(self) -> str:
        """The vocabulary: character i is token i, and the boundary is the token after the last."""
        return self.corpus.chars

    @property
    def documents(self) -> list[str]:
        """The data. Those of a checkpoint are read when they are first needed."""
        return self.corpus.documents

    @property
    def same_data(self) -> bool:
        """Whether the data are those that the checkpoint was trained on."""
        return self.corpus.digest == self.corpus.trained_on

    @property
    def parameters(self) -> Views:
        """Every tensor [out][in] by name: views of the memory that training writes, nothing is copied.

        They stay valid until a later `train` needs more memory (a larger batch, more threads) or other data.
        """
        return self.session.parameters

    @property
    def gradients(self) -> Views:
        """The gradients of the last step or of `loss_and_gradients`, as views."""
        return self.session.gradients

    @property
    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return not self.session.not_finite

    @property
    def session(self) -> Session:
        """The compiled functions on their memory; see eegen/run/session.py."""
        return self.sessions.current(self.options)

    def __repr__(self) -> str:
        return f"<eegen.Model {self.config.title}: {self.params:,} parameters, {self.target}>"

    # --- work

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
        """Train; `options` are the fields of `eegen.train.options.TrainOptions` except the seed, which is the model's.

        Each call has a schedule of its own and keeps the optimizer's state. With `resume` it goes on with the
        schedule of the last call, or of the checkpoint, where that was stopped; options not given stay as they were.
        `save` is written at the end, every minute, and on Ctrl-C, which ends the run early.
        """
        self.options = options_of_call(self.options, {"steps": steps, **options}, self.config.model, resume)
        if not resume:
            self.position = Position()
        elif reason := loop.finished(self.options, self.position):
            raise EegenError(f"nothing is left of this run: {reason}")
        return training.train(
            self.sessions,
            self.options,
            self.position,
            resume=resume,
            save=None if save is None else Path(save),
            log=None if log is None else Path(log),
            on_chunk=on_chunk,
        )

    def evaluate(self, data: Data = None) -> float:
        """The exact mean loss per position over every document of `data`, by default all of the model's own."""
        documents = self.documents if data is None else documents_of(data)
        dataset = self.corpus.dataset(documents)
        return inference.loss(self.programs.infer, self._weights, dataset)

    def loss_and_gradients(self, documents: Sequence[int]) -> float:
        """The mean loss over some documents of the training data, by number; `gradients` are those of that loss."""
        return self.session.gradient(np.asarray(documents, np.int64))

    def sample(self, n: int = 10, *, temperature: float = 0.5, prefix: str = "", seed: int = 42) -> list[str]:
        """`n` new documents that begin with `prefix`."""
        sampling = Sampling(n, temperature, prefix, seed)
        return inference.sample(self.programs.infer, self._weights, self.chars, sampling)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a checkpoint: weights, optimizer state, configuration, vocabulary, and where training was."""
        saving.write(Path(path), self.session, self.corpus, self.options, self.position)
        return Path(path)

    def close(self) -> None:
        """Release the memory, and end the process of an emulated target. The weights are kept."""
        self.sessions.close()

    @property
    def _weights(self) -> Tensors:
        """The weights to read; a checkpoint's need no session."""
        weights = self.sessions.weights
        return self.session.parameters if weights is None else weights

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def load(path: str | os.PathLike[str], **options: Any) -> Model:
    """The model of a checkpoint, to train on, evaluate and sample; `options` as for `Model`: data, target, cc."""
    return Model.of_checkpoint(files.load(Path(path)), **options)
