"""A trained model at rest: its exact loss over any documents, and new documents drawn from it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.plan.planner import Plan
from eegen.run.data import Dataset, build_dataset
from eegen.run.engine import Engine
from eegen.run.random_stream import MAX_SEED
from eegen.run.session import Session

Weights = Mapping[str, NDArray[np.float32]]

BUFFER_BYTES = 48 << 20  # of row buffers: the more documents at once, the more rows they share
MOST_DOCUMENTS = 1024
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
            raise EegenError(f"`n` is {self.n}; it must be 1 to 1000000")
        if not 0 < self.temperature < math.inf:
            raise EegenError(f"`temperature` is {self.temperature:g}; it must be a number above 0")
        if not 1 <= self.seed <= MAX_SEED:
            raise EegenError(f"`seed` is {self.seed}; it must be 1 to {MAX_SEED}")


def loss(plan: Plan, engine: Engine, weights: Weights, data: Dataset) -> float:
    """The mean loss a position over every document."""
    batch = min(documents_at_once(plan, data.longest), len(data.documents))
    with contextlib.closing(engine):
        session = Session(plan, engine, data, batch=batch)
        _lend(weights, session)
        return session.loss()


def sample(plan: Plan, engine: Engine, weights: Weights, chars: str, how: Sampling) -> list[str]:
    """New documents. Those of a seed are the same however many are asked for."""
    block = plan.build.model.block_size
    with contextlib.closing(engine):
        tokens = encode(how.prefix, chars)
        if len(tokens) >= block:
            raise EegenError(f"the prefix has {len(tokens)} characters; the model's block is {block}: give fewer")
        batch = min(how.n, documents_at_once(plan, block))
        # Samples may be longer than any document: the memory is that of whole blocks.
        session = Session(plan, engine, build_dataset([chars[:1]], chars, block), batch=batch, longest=block)
        _lend(weights, session)
        drawn = session.sample(how.n, max(how.temperature, COLDEST), tokens, how.seed)
        return ["".join(chars[i] for i in tokens) for tokens in drawn]


def encode(text: str, chars: str) -> list[int]:
    known = {c: i for i, c in enumerate(chars)}
    if unknown := sorted(set(text) - known.keys()):
        named = ", ".join(map(repr, unknown))
        raise EegenError(f"the prefix {text!r} has {named}, which the model does not know; it knows {chars!r}")
    return [known[c] for c in text]


def documents_at_once(plan: Plan, longest: int) -> int:
    """Documents whose row buffers stay within `BUFFER_BYTES`, at most `MOST_DOCUMENTS` and at least one."""
    keys = longest + 8
    row = sum(ld * (keys if domain == "keys" else 1) for domain, ld in plan.slots) + 2 * keys
    return max(1, min(MOST_DOCUMENTS, BUFFER_BYTES // (4 * row * longest)))


def _lend(weights: Weights, session: Session) -> None:
    for name, view in session.parameters.items():
        view[:] = weights[name]
