"""The open session of a model, replaced by another where training needs more memory or other data."""

from __future__ import annotations

from eegen.errors import EegenError
from eegen.run.corpus import Corpus
from eegen.run.data import Dataset
from eegen.run.model_builds import Programs
from eegen.run.session import Session
from eegen.run.state import State, Tensors
from eegen.train.loop import CHUNK_STEPS
from eegen.train.options import TrainOptions


class Sessions:
    """Opens sessions of one compiled model, one at a time; each starts from the state that the one before it had."""

    def __init__(self, programs: Programs, corpus: Corpus, state: State | None = None) -> None:
        self.programs, self.corpus = programs, corpus
        self._session: Session | None = None
        self._state = state  # of the session that was closed, or of a checkpoint
        self._val: float | None = None  # the part of the documents that the session's data leave out
        self._trainable = False  # whether the session has the documents at all

    def open(self, options: TrainOptions) -> Session:
        """A session set to these options: the open one if it has the capacity and the data, else a new one."""
        session = self._session
        if session is None or not self._fits(session, options):
            session = self._replace(options, self.corpus.training_set(options.val, options.seed))
            self._trainable = True
        session.configure(options.batch, options.threads, options.order == "random")
        session.settings = options.step_settings
        return session

    def current(self, options: TrainOptions) -> Session:
        """The open session, or a new one; without its documents, if those of a checkpoint are gone."""
        if self._session is not None:
            return self._session
        try:
            return self.open(options)
        except EegenError:
            if not self.corpus.unread or self._state is None:
                raise
            return self._replace(options, self.corpus.smallest())

    @property
    def weights(self) -> Tensors | None:
        """The weights by name where there are any yet; those of a checkpoint need no session."""
        if self._session is not None:
            return self._session.parameters
        return self._state.weights if self._state else None

    def close(self) -> None:
        """Close the session and keep its state for the next one."""
        if self._session is not None:
            self._state = State.of(self._session)
            self._session.close()
            self._session = None

    def _fits(self, session: Session, options: TrainOptions) -> bool:
        batch, threads = session.capacity
        same_rows = self._trainable and self._val == options.val and session.sharing == options.sharing
        return same_rows and options.batch <= batch and options.threads <= threads

    def _replace(self, options: TrainOptions, data: Dataset) -> Session:
        compiled = self.programs.train
        session = Session(compiled.plan, compiled.open_engine(), data, **options.session_options, chunk=CHUNK_STEPS)
        session.init()
        self.close()
        if self._state is not None:
            self._state.restore(session)
            self._state = None
        self._session, self._val, self._trainable = session, options.val, False
        return session
