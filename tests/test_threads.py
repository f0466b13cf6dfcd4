"""Several threads run a step together: the same result as one but for rounding, the same bytes every time."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from machines import Machine

from eegen.models.config import model_config
from eegen.run.session import Session

MODELS = [
    pytest.param({}, id="gpt"),
    pytest.param({"d_model": 64, "n_layers": 2, "norm_gains": True, "tie_embeddings": True}, id="gpt-two-layers-tied"),
    pytest.param({"model": "rnn"}, id="rnn"),
    pytest.param({"model": "rnn-sparse"}, id="rnn-sparse"),
    pytest.param({"model": "mlp"}, id="mlp"),
    pytest.param({"model": "bigram"}, id="bigram"),
]
STEPS = 12


def trained(
    open_session: Callable[..., Session],
    options: dict[str, object],
    documents: list[str],
    letters: str,
    threads: int,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    config = model_config(**{**options, "vocab_size": len(letters) + 1})  # type: ignore[arg-type]
    session = open_session(native(), config, documents, letters, batch=24, threads=threads)
    losses = session.train(np.full(STEPS, 0.003, np.float32))
    return losses, {name: view.copy() for name, view in session.parameters.items()}


def native() -> Machine:
    """The fastest target that runs here: that whose barriers are met most often."""
    from eegen.targets import best_target

    return Machine(best_target().name)


@pytest.mark.parametrize("options", MODELS)
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_agree_with_one(
    options: dict[str, object],
    threads: int,
    open_session: Callable[..., Session],
    names: list[str],
    letters: str,
) -> None:
    some = names[:300]
    alone, weights = trained(open_session, options, some, letters, 1)
    together, others = trained(open_session, options, some, letters, threads)
    assert together == pytest.approx(alone, abs=2e-4)
    for name, expected in weights.items():
        assert np.abs(others[name] - expected).max() < 5e-3, name  # Adam turns rounding of tiny gradients into steps


@pytest.mark.parametrize("options", MODELS)
@pytest.mark.parametrize("threads", [2, 5])
def test_a_number_of_threads_gives_the_same_bytes_every_time(
    options: dict[str, object],
    threads: int,
    open_session: Callable[..., Session],
    names: list[str],
    letters: str,
) -> None:
    first, weights = trained(open_session, options, names[:300], letters, threads)
    for _ in range(3):
        again, others = trained(open_session, options, names[:300], letters, threads)
        assert again.tobytes() == first.tobytes()
        assert all(others[name].tobytes() == weights[name].tobytes() for name in weights)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be kept on one processor here")
@pytest.mark.parametrize("threads", [2, 4, 16])
def test_more_threads_than_processors_finish(
    threads: int, open_session: Callable[..., Session], names: list[str], letters: str
) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        losses, _ = trained(open_session, {}, names[:300], letters, threads)
    finally:
        os.sched_setaffinity(0, before)
    assert len(losses) == STEPS


@pytest.mark.parametrize("threads", [2, 3])
def test_weight_gradients_of_many_rows_are_summed_by_rows(
    threads: int, open_session: Callable[..., Session], names: list[str], letters: str
) -> None:
    config = model_config(d_model=16, vocab_size=len(letters) + 1)
    losses = []
    for n in (1, threads, threads):
        session = open_session(native(), config, names, letters, batch=400, threads=n)
        assert session.plan.exchange_rows == 160
        losses.append(session.train(np.full(STEPS, 0.003, np.float32)))
        assert session.rows.prefix > 160 * 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[1].tobytes() == losses[2].tobytes()


def test_more_threads_than_rows_finish(open_session: Callable[..., Session]) -> None:
    session = open_session(Machine("scalar"), model_config(vocab_size=3), ["a", "b"], "ab", batch=1, threads=9)
    assert np.isfinite(session.train(np.full(STEPS, 0.003, np.float32))).all()


def test_a_run_that_diverges_ends_for_every_thread(
    open_session: Callable[..., Session], names: list[str], letters: str
) -> None:
    config = model_config(vocab_size=len(letters) + 1)
    session = open_session(native(), config, names[:300], letters, batch=8, threads=2)
    losses = session.train(np.array([0.003, 1e30, 0.003, 0.003, 0.003], np.float32))
    assert len(losses) < 5
    assert not losses[-1] < 1e30
