"""Inference with a trained model: its exact loss over any documents, and new documents."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.run.data import Dataset
from eegen.run.infer_session import InferSession
from eegen.run.model_builds import Compiled
from eegen.run.random_stream import MAX_SEED

Weights = Mapping[str, NDArray[np.float32]]

MIN_TEMPERATURE = 1e-30  # a lower one would overflow, and draws the same characters


@dataclass(frozen=True)
class Sampling:
    """How many documents to sample, and how."""

    n: int = 20
    temperature: float = 0.5
    prefix: str = ""
    seed: int = 42

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 1_000_000:
            raise EegenError(f"`n` is {self.n}; it must be 1 to 1000000")
        if not 0 < self.temperature < math.inf:
            raise EegenError(f"`temperature` is {self.temperature:g}; it must be a number above 0")
        if not 1 <= self.seed <= MAX_SEED:
            raise EegenError(f"`seed` is {self.seed}; it must be 1 to {MAX_SEED}")


def loss(compiled: Compiled, weights: Weights, data: Dataset) -> float:
    """The mean loss per position over every document."""
    with contextlib.closing(compiled.open_engine()) as engine:
        session = InferSession(compiled.plan, engine, data.longest, len(data.documents))
        copy_weights(weights, session)
        return session.loss(data)


def sample(compiled: Compiled, weights: Weights, chars: str, sampling: Sampling) -> list[str]:
    """New documents. Those of a seed begin with the same ones for any number of them."""
    block = compiled.plan.build.model.block_size
    with contextlib.closing(compiled.open_engine()) as engine:
        tokens = encode(sampling.prefix, chars)
        if len(tokens) >= block:
            raise EegenError(f"the prefix has {len(tokens)} characters; the model's block is {block}: give fewer")
        session = InferSession(compiled.plan, engine, block, sampling.n)
        copy_weights(weights, session)
        drawn = session.sample(sampling.n, max(sampling.temperature, MIN_TEMPERATURE), tokens, sampling.seed)
        return ["".join(chars[i] for i in tokens) for tokens in drawn]


def encode(text: str, chars: str) -> list[int]:
    known = {c: i for i, c in enumerate(chars)}
    if unknown := sorted(set(text) - known.keys()):
        named = ", ".join(map(repr, unknown))
        raise EegenError(f"the prefix {text!r} has {named}, which the model does not know; it knows {chars!r}")
    return [known[c] for c in text]


def copy_weights(weights: Weights, session: InferSession) -> None:
    for name, view in session.parameters.items():
        view[:] = weights[name]
