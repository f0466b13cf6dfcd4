"""Every target against the float64 oracle: losses, gradients, Adam, sampling, on configurations chosen to hurt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from machines import ARM, EACH_TARGET, EVERY, NATIVE, RISCV, Machine, logits_of, open_infer_session, parameters, sample

from eegen.language.optimizers import How, adam
from eegen.language.oracle import Oracle
from eegen.language.rows import batch_rows
from eegen.models import build_graph
from eegen.models.config import ModelConfig
from eegen.run.data import load_documents
from eegen.run.random_stream import sample_streams
from eegen.run.session import Session

Open = Callable[..., Session]

NAMES = load_documents()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MANY_LETTERS = "".join(sorted(LETTERS + LETTERS.upper() + "áéñßжщ漢😀"))

SMALL = ModelConfig(d_model=16, n_heads=4)
ODD = ModelConfig(d_model=20, n_heads=4, n_layers=3, block_size=8, activation="relu2")
WIDE = ModelConfig(d_model=36, n_heads=4, vocab_size=len(MANY_LETTERS) + 1, d_ff=50)
THIN = ModelConfig(d_model=10, n_heads=5, block_size=5)
ONE_HEAD = ModelConfig(d_model=16, n_heads=1, n_layers=2)
TWO_HEADS = ModelConfig(d_model=64, n_heads=2, d_ff=80)
THREE_HEADS = ModelConfig(d_model=24, n_heads=3)
NARROW = ModelConfig(d_model=3, n_heads=3, d_ff=1, block_size=1)


@dataclass(frozen=True)
class Case:
    """A model and a batch that it has trouble with."""

    name: str
    config: ModelConfig
    documents: list[str]
    chars: str = LETTERS

    def __str__(self) -> str:
        return self.name

    @property
    def tokens(self) -> list[list[int]]:
        return [[self.chars.index(c) for c in document] for document in self.documents]


CASES = [
    Case("eight-names", SMALL, NAMES[:8]),
    Case("one-document", SMALL, ["maria"]),
    Case("one-letter-names", SMALL, list("abca")),
    Case("the-same-names-twice", SMALL, ["emma", "ava", "emma", "ava", "emmanuel", "av"]),
    Case("names-longer-than-the-block", ODD, ["abcdefghijklmnop", "zzzzzzzzzzzzzzzz", "abcdefgh", "abcdefg", "ab"]),
    Case("width-20-three-layers-relu2", ODD, NAMES[100:107]),
    Case(
        "width-36-unicode",
        WIDE,
        ["漢😀ж", "Zoë".replace("ë", "é"), "ßщñ", MANY_LETTERS, MANY_LETTERS[::-1]],
        MANY_LETTERS,
    ),
    Case("width-10-five-heads", THIN, NAMES[50:61]),
    Case("one-head", ONE_HEAD, NAMES[7:16]),
    Case("heads-of-32", TWO_HEADS, NAMES[30:34]),
    Case("heads-of-8", THREE_HEADS, NAMES[40:46]),
    Case("width-3-block-1", NARROW, ["a", "bc", "d"]),
]
MANY = Case("batch-257", SMALL, NAMES[:257])


def oracle_of(case: Case, session: Session) -> tuple[Oracle, dict[str, Any]]:
    return Oracle(*build_graph(case.config)), {
        name: np.array(value, np.float64) for name, value in session.parameters.items()
    }


def worst(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """The largest error of any entry, as a part of its tensor's largest."""
    assert found.keys() == wanted.keys()
    return max(float(np.abs(found[k] - wanted[k]).max() / (np.abs(wanted[k]).max() + 1e-12)) for k in wanted)


def check_gradients(case: Case, session: Session) -> None:
    oracle, weights = oracle_of(case, session)
    rows = batch_rows(case.tokens, case.config.vocab_size - 1, case.config.block_size)
    loss, gradients = oracle.loss_and_gradients(rows, weights)
    assert session.gradient(np.arange(len(case.documents), dtype=np.int32)) == pytest.approx(loss, rel=1e-6)
    assert worst(session.gradients, gradients) < 1e-5
    assert session.loss() == pytest.approx(loss, rel=1e-6)


def check_adam(case: Case, session: Session, steps: int = 4) -> None:
    """Adam divides by the size of a gradient, so rounding counts relative to that, entry by entry."""
    oracle, weights = oracle_of(case, session)
    rows = batch_rows(case.tokens, case.config.vocab_size - 1, case.config.block_size)
    m = {name: np.zeros_like(w) for name, w in weights.items()}
    v = {name: np.zeros_like(w) for name, w in weights.items()}
    slack = {name: np.zeros_like(w) for name, w in weights.items()}
    lr, losses = 0.01, []
    for step in range(1, steps + 1):
        loss, gradients = oracle.loss_and_gradients(rows, weights)
        losses.append(loss)
        for name, g in gradients.items():
            weights[name], m[name], v[name] = adam(How(step, lr), weights[name], g, m[name], v[name])
            slack[name] += np.minimum(2 * lr, lr * 2e-5 * np.abs(g).max() / (np.abs(g) + 1e-12)) * (g != 0)
    found = session.train(np.full(steps, lr, np.float32))
    assert found == pytest.approx(losses, rel=1e-5)
    for name, w in session.parameters.items():
        error = np.abs(w - weights[name])
        assert (error <= slack[name] + 1e-6).all(), (
            f"{name}: {(error / (slack[name] + 1e-6)).max():.3g} of what is allowed"
        )


@pytest.mark.parametrize("machine", parameters(EVERY))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_and_adam_match_the_oracle(case: Case, machine: Machine, open_session: Open) -> None:
    session = open_session(
        machine, case.config, case.documents, case.chars, spread=3.0, batch=len(case.documents), random=False
    )
    check_gradients(case, session)
    check_adam(case, session)


@pytest.mark.parametrize("machine", parameters([*NATIVE, ARM[0], RISCV[0]]))
def test_a_batch_of_257_matches_the_oracle(machine: Machine, open_session: Open) -> None:
    session = open_session(machine, MANY.config, MANY.documents, LETTERS, spread=3.0, batch=257, random=False)
    check_gradients(MANY, session)
    check_adam(MANY, session, steps=2)


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
@pytest.mark.parametrize("config", [SMALL, ODD], ids=lambda c: c.title)
def test_sharing_rows_changes_nothing(config: ModelConfig, machine: Machine, open_session: Open) -> None:
    losses, gradients, rows = [], [], []
    for sharing in (True, False):
        session = open_session(machine, config, NAMES[:30], LETTERS, spread=3.0, batch=12, sharing=sharing)
        session.gradient(np.arange(12, dtype=np.int32))
        rows.append(session.rows.prefix)
        gradients.append({name: value.copy() for name, value in session.gradients.items()})
        losses.append(session.train(np.full(5, 0.01, np.float32)))
    assert rows[0] < rows[1]
    assert worst(*gradients) < 1e-5
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
def test_a_seed_gives_the_same_bytes_twice(machine: Machine, open_session: Open) -> None:
    ends = []
    for _ in range(2):
        session = open_session(machine, SMALL, NAMES, LETTERS, batch=8)
        losses = session.train(np.full(6, 0.01, np.float32))
        ends.append([losses.tobytes(), *(value.tobytes() for value in session.parameters.values())])
        ends[-1].append(repr(sample(machine, session, 5, 0.5, [], 1)).encode())
    assert ends[0] == ends[1]


@pytest.mark.parametrize("machine", parameters(EACH_TARGET[1:]))
def test_targets_agree_over_100_steps(machine: Machine, open_session: Open) -> None:
    lr = (0.01 * (1 - np.arange(100) / 100)).astype(np.float32)
    losses, other = (open_session(m, SMALL, NAMES, LETTERS, batch=4).train(lr) for m in (machine, Machine("scalar")))
    assert np.abs(losses - other).max() < 2e-3
    assert losses.mean() == pytest.approx(other.mean(), abs=1e-4)


def draws(
    case: Case, session: Session, texts: list[list[int]], temperature: float, prefix: int, seed: int
) -> tuple[int, int]:
    """(tokens that are not the oracle's draw from the same random numbers, tokens too close to call).

    The oracle's probabilities come from the whole text at once; the session's from one token at a time.
    """
    oracle, weights = oracle_of(case, session)
    boundary, block = case.config.vocab_size - 1, case.config.block_size
    wrong = close = 0
    for tokens, state in zip(texts, sample_streams(seed, len(texts)).tolist(), strict=True):
        rows = batch_rows([tokens], boundary, block)
        logits = oracle.evaluate(rows, weights)[oracle.logits][rows.position_row]
        for t in range(prefix, len(logits)):
            state ^= state << 13 & (1 << 64) - 1
            state ^= state >> 7
            state ^= state << 17 & (1 << 64) - 1
            p = np.exp((logits[t] - logits[t].max()) / temperature)
            edges = np.cumsum(p / p.sum())
            u = (state & 0xFFFFFF) / 16777215
            said = tokens[t] if t < len(tokens) else boundary
            if np.abs(edges - u).min() < 1e-5:
                close += 1
            else:
                wrong += said != np.searchsorted(edges, u, side="right")
    return wrong, close


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[5], CASES[6]], ids=str)
def test_samples_are_the_oracles_draws(case: Case, machine: Machine, open_session: Open) -> None:
    count = 200 if machine.native else 25
    session = open_session(machine, case.config, case.documents, case.chars, spread=4.0, batch=32)
    for temperature, prefix in ((1.0, []), (0.5, [0, 3])):
        texts = sample(machine, session, count, temperature, prefix, seed=7)
        assert all(text[: len(prefix)] == prefix for text in texts)
        wrong, close = draws(case, session, texts, temperature, len(prefix), seed=7)
        positions = sum(map(len, texts))
        assert wrong == 0
        assert close < 0.01 * positions + 3


@pytest.mark.parametrize("machine", parameters([*NATIVE, ARM[0], RISCV[0]]))
@pytest.mark.parametrize("case", [CASES[0], CASES[5]], ids=str)
def test_the_cache_of_keys_and_values_changes_nothing(case: Case, machine: Machine, open_session: Open) -> None:
    """Logits found one token at a time are those of the whole text at once."""
    session = open_session(machine, case.config, case.documents, case.chars, spread=4.0, batch=16)
    count = 16  # in one call, so that every row is still there
    infer = open_infer_session(machine, session, count)
    texts = infer.sample(count, 1.0, [], seed=3)
    block = case.config.block_size
    rows = [(b, t) for t in range(block) for b in range(count) if t <= len(texts[b])]
    cached = logits_of(infer, len(rows)).copy()
    infer.close()
    oracle, weights = oracle_of(case, session)
    for b, text in enumerate(texts):
        whole = batch_rows([text], case.config.vocab_size - 1, block)
        logits = oracle.evaluate(whole, weights)[oracle.logits][whole.position_row]
        own = cached[[i for i, (text_number, _) in enumerate(rows) if text_number == b]]
        assert np.abs(own - logits).max() < 1e-5 * max(1.0, np.abs(logits).max())
