"""What training changes in a session, copied out of it and into another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eegen.run.header import Counters
from eegen.run.session import Session

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class State:
    """Weights and optimizer state by name, and the counters. What is missing stays as a new session has it."""

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

    def restore(self, session: Session) -> None:
        for name, view in session.parameters.items():
            view[:] = self.weights[name]
        for name, view in session.optimizer.items():
            view[:] = self.optimizer.get(name, 0)
        if self.counters:
            session.counters = self.counters
