"""The same training step in other frameworks, timed for comparison.

A peer runs a model's graph over a padded batch [documents][positions], each op by what its framework has for it, with
the loss masked: the usual way to write these models there. Weights, batches and optimizer are eegen's.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.models.config import ModelConfig
from eegen.run.data import Dataset
from eegen.run.random_stream import next_state
from eegen.train.options import TrainOptions

MODULES = {"torch": "eegen.measure.peers.pytorch", "jax": "eegen.measure.peers.jax_scan"}
# The ops that Python's operators do on arrays of every framework; see OPS in the files of the frameworks.
OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda tokens, a, b: a + b,
    "sub": lambda tokens, a, b: a - b,
    "mul": lambda tokens, a, b: a * b,
    "bias": lambda tokens, x, b: x + b,
    "gain": lambda tokens, x, w: x * w,
    "spread": lambda tokens, x: x,
}
IGNORED = -1  # target of a position that is padding


class Peer(Protocol):
    """A training run in another framework."""

    unit: int  # steps are done in multiples of this

    def run(self, units: int) -> list[float]:
        """Do `units * unit` steps; their losses."""


def find(name: str) -> None:
    """Raise an error for a framework that is unknown or not installed."""
    if name not in MODULES:
        raise EegenError(f"`against` is '{name}'; it must be {' or '.join(MODULES)}")
    if importlib.util.find_spec(name) is None:
        raise EegenError(f"`against` {name}: {name} is not installed here; try `pip install {name}`")


def load(
    name: str,
    config: ModelConfig,
    data: Dataset,
    options: TrainOptions,
    weights: dict[str, NDArray[np.float32]],
    state: int,
) -> Peer:
    """The model in the framework `name`, from these first weights and the random stream after them."""
    find(name)
    peer: Peer = importlib.import_module(MODULES[name]).Peer(
        config, data, options, weights, batches(data, options, state)
    )
    return peer


def padded(data: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens and target tokens, [documents][longest]; past the end of a document the boundary and `IGNORED`."""
    counts = np.diff(data.starts)
    inside = np.arange(data.longest) < counts[:, None]
    tokens = np.full(inside.shape, data.vocab_size - 1, np.int64)
    targets = np.full(inside.shape, IGNORED, np.int64)
    tokens[inside], targets[inside] = data.token, data.target
    return tokens, targets


def batches(data: Dataset, options: TrainOptions, state: int) -> Iterator[list[int]]:
    """The documents of each step, as eegen draws them from its random stream."""
    n, cursor = len(data.documents), 0
    while True:
        chosen = []
        for _ in range(options.batch):
            if options.order == "random":
                state = next_state(state)
                chosen.append(state % n)
            else:
                chosen.append(cursor)
                cursor = (cursor + 1) % n
        yield chosen


def missing(framework: str, op: str) -> EegenError:
    return EegenError(f"`against` {framework}: this model's {op} is not written for {framework}")
