"""Every optimizer in C against its rule in float64, on every target, for models with every kind of parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machines import EACH_TARGET, NATIVE, Machine, parameters
from test_targets import NAMES, Case, check_gradients, oracle_of

from eegen.errors import EegenError
from eegen.language.optimizers import NUMBERS, OPTIMIZERS, How, advance, matrix_parameters, orthogonal
from eegen.language.rows import batch_rows
from eegen.model import Model, load
from eegen.models.config import ModelConfig, model_config
from eegen.plan.build_config import BuildConfig
from eegen.plan.planner import make_plan
from eegen.run.session import Session

Open = Callable[..., Session]

DOCUMENTS = [*NAMES[:6], "emma", "a", "abcdefghijklmnopqrstuvwxyz"]
GPT = Case("gpt", model_config("gpt", d_model=20, n_heads=4, n_layers=2, d_ff=44), DOCUMENTS)
TIED = Case("gpt-tied-gains", ModelConfig(norm_gains=True, final_norm=True, tie_embeddings=True), DOCUMENTS)
RNN = Case("rnn", model_config("rnn", d_model=9, d_state=21), DOCUMENTS)
SPARSE = Case("rnn-sparse", model_config("rnn-sparse", d_state=19, top_k=5), DOCUMENTS)
MLP = Case("mlp", model_config("mlp", d_hidden=19), DOCUMENTS)
CASES = [GPT, TIED, RNN, SPARSE, MLP]

# Far from the defaults, so that a number that is not heeded, or is another's, shows.
ODD = {"beta1": 0.7, "beta2": 0.95, "momentum": 0.6, "weight_decay": 0.3}
GRADIENT_ERROR = 1e-5  # of a tensor's largest entry
# Of what a matrix moves: five turns make the smallest directions 485 times larger, and the square of a matrix that is
# much longer than wide knows them less well.
ORTHOGONAL_ERROR, TALL_ERROR = 3e-4, 2e-3


def opened(session: Open, case: Case, machine: Machine, optimizer: str, **options: Any) -> Session:
    """A session on the case's documents as one batch, told numbers that are not the defaults."""
    numbers = {name: options.pop(name) for name in NUMBERS if name in options}
    options = {"spread": 2.0, "batch": len(case.documents), "random": False, **options}
    made = session(machine, case.config, case.documents, case.chars, optimizer=optimizer, **options)
    made.settings = made.settings._replace(**{**ODD, **numbers})
    return made


def check_step(case: Case, session: Session, lr: float, clip: float = 0.0) -> None:
    """One step from wherever the session is: each new weight and slot is the rule's, for a gradient off by rounding."""
    optimizer = OPTIMIZERS[session.plan.build.optimizer]
    oracle, weights = oracle_of(case, session)
    hidden = matrix_parameters(oracle.graph) if optimizer.matrix else set()
    rows = batch_rows(case.tokens, case.config.vocab_size - 1, case.config.block_size)
    slots = {name: np.array(value, np.float64) for name, value in session.optimizer.items()}
    how = How(session.counters.step + 1, lr, clip=clip, **ODD)
    _, gradients = oracle.loss_and_gradients(rows, weights)

    def step(error: float) -> dict[str, Any]:
        off = {name: g + error * np.abs(g).max() * (g != 0) for name, g in gradients.items()}
        moved, kept = advance(optimizer, how, weights, off, slots, hidden)
        return {**moved, **kept}

    wanted, low, high = step(0), step(-GRADIENT_ERROR), step(GRADIENT_ERROR)
    session.settings = session.settings._replace(clip=clip)
    session.train(np.array([lr], np.float32))
    for name, found in {**session.parameters, **session.optimizer}.items():
        allowed = np.abs(high[name] - wanted[name]) + np.abs(low[name] - wanted[name])
        allowed += 1e-6 * (np.abs(wanted[name]).max() + lr)
        if name in hidden:
            error = TALL_ERROR if max(found.shape) > 1.5 * min(found.shape) else ORTHOGONAL_ERROR
            allowed = allowed + error * np.abs(wanted[name] - weights[name]).max()
        worst = float((np.abs(found - wanted[name]) / allowed).max())
        assert worst <= 1, f"{name} is off by {worst:.3g} times what is allowed"


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", [GPT, RNN], ids=str)
def test_steps_are_the_rules(case: Case, optimizer: str, machine: Machine, open_session: Open) -> None:
    session = opened(open_session, case, machine, optimizer)
    for i in range(4):
        check_step(case, session, OPTIMIZERS[optimizer].lr / (1 + i))
    for i in range(2):
        check_step(case, session, OPTIMIZERS[optimizer].lr, clip=0.5 / (1 + i))
    check_gradients(case, session)


@pytest.mark.parametrize("machine", parameters([NATIVE[0], NATIVE[2]]))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", [TIED, SPARSE, MLP], ids=str)
def test_steps_are_the_rules_for_gains_biases_ties_and_sparse_matrices(
    case: Case, optimizer: str, machine: Machine, open_session: Open
) -> None:
    session = opened(open_session, case, machine, optimizer)
    check_step(case, session, 0.05)
    check_step(case, session, 0.02, clip=0.3)


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_many_steps_stay_with_the_oracle(optimizer: str, machine: Machine, open_session: Open) -> None:
    """Of those whose error does not grow by itself: signs flip, and Newton-Schulz makes small directions large."""
    session = opened(open_session, GPT, machine, optimizer, clip=1.0, **{name: NUMBERS[name] for name in ODD})
    oracle, weights = oracle_of(GPT, session)
    rule, lr = OPTIMIZERS[optimizer], 0.01
    rows = batch_rows(GPT.tokens, GPT.config.vocab_size - 1, GPT.config.block_size)
    slots = {name: np.array(value, np.float64) for name, value in session.optimizer.items()}
    losses = []
    for i in range(12):
        loss, gradients = oracle.loss_and_gradients(rows, weights)
        weights, slots = advance(rule, How(i + 1, lr, clip=1.0), weights, gradients, slots)
        losses.append(loss)
    assert session.train(np.full(12, lr, np.float32)) == pytest.approx(losses, rel=1e-4)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_norm_that_is_not_reached_changes_no_bit(optimizer: str, machine: Machine, open_session: Open) -> None:
    """So the update from memory, which clipping needs, is the one that is fused into the gradients."""
    ends = []
    for clip in (0.0, 1e6):
        session = opened(open_session, GPT, machine, optimizer, clip=clip)
        losses = session.train(np.full(5, 0.01, np.float32))
        ends.append([losses.tobytes(), *(value.tobytes() for value in session.parameters.values())])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("machine", parameters([m for m in NATIVE if m.native]))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", [GPT, RNN], ids=str)
def test_threads_take_the_same_steps(case: Case, optimizer: str, machine: Machine, open_session: Open) -> None:
    for threads in (2, 3):
        session = opened(open_session, case, machine, optimizer, threads=threads)
        check_step(case, session, 0.02)
        check_step(case, session, 0.02, clip=0.2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_threads_give_the_same_bytes_every_time(optimizer: str, open_session: Open) -> None:
    ends = []
    for _ in range(3):
        session = opened(open_session, GPT, NATIVE[0], optimizer, threads=2, clip=0.3)
        session.train(np.full(6, 0.01, np.float32))
        ends.append([value.tobytes() for value in (*session.parameters.values(), *session.optimizer.values())])
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_ends_with_the_same_bytes(optimizer: str, tmp_path: Path) -> None:
    """The checkpoint keeps the optimizer, its numbers and all that it remembers of each weight."""
    numbers: dict[str, Any] = {name: ODD[name] for name in OPTIMIZERS[optimizer].options}
    ends = []
    for stop in (40, 15):
        model = Model(data=NAMES[:50], optimizer=optimizer)
        run = model.train(stop, batch=4, schedule="constant", clip=0.7, **numbers)
        if stop < 40:
            model = load(model.save(tmp_path / "model"), data=NAMES[:50])
            run = model.train(40, resume=True)
        assert run.steps == 40
        assert model.optimizer == optimizer
        ends.append([run.loss[-25:].tobytes(), *(view.tobytes() for view in model.parameters.values())])
        ends[-1] += [view.tobytes() for view in model.session.optimizer.values()]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_names(optimizer: str) -> None:
    model = Model(optimizer=optimizer)
    assert model.options.lr == OPTIMIZERS[optimizer].lr
    assert model.train(600).mean_loss < 2.45


def test_matrices_whose_gradient_is_one_product_are_updated_there() -> None:
    for name, optimizer in OPTIMIZERS.items():
        plan = make_plan(BuildConfig(ModelConfig(), "avx512", name))
        fused = {p.name for p in plan.parameters if p.fused}
        matrices = {p.name for p in plan.parameters if p.matrix}
        assert fused | matrices == {"lm_head"} | {f"layers.0.{name}" for name in ("wqkv", "wo", "w1", "w2")}
        assert fused == {"lm_head"} if optimizer.matrix else not matrices


def test_q_k_and_v_are_orthogonalised_one_by_one(open_session: Open) -> None:
    """Without momentum and decay a step is lr times the nearest orthogonal matrix of each."""
    none = dict.fromkeys(("momentum", "weight_decay"), 0.0)
    session = opened(open_session, GPT, NATIVE[0], "muon", **none)
    before = {name: value.copy() for name, value in session.parameters.items()}
    session.gradient(np.arange(len(GPT.documents), dtype=np.int32))
    gradients = {name: np.array(value, np.float64) for name, value in session.gradients.items()}
    session.train(np.array([0.125], np.float32))
    for name in ("layers.0.wq", "layers.0.wk", "layers.1.wv", "layers.1.w1", "layers.1.w2"):
        moved = (before[name] - session.parameters[name]) / 0.125
        out, inner = moved.shape
        assert moved == pytest.approx(orthogonal(gradients[name]) * np.sqrt(max(1, out / inner)), abs=2e-3)


def test_the_norm_that_clips_is_that_of_all_tensors(open_session: Open) -> None:
    """With plain descent the step's length is lr times the norm allowed."""
    session = opened(open_session, RNN, NATIVE[0], "sgd", momentum=0.0, clip=0.01)
    before = {name: np.array(value, np.float64) for name, value in session.parameters.items()}
    session.train(np.array([0.5], np.float32))
    length = sum(((value - before[name]) ** 2).sum() for name, value in session.parameters.items()) ** 0.5
    assert length == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_a_model_that_is_not_trained_has_no_optimizer() -> None:
    with pytest.raises(EegenError, match="`optimizer` means nothing to the model 'bigram-count'"):
        Model("bigram-count", data=["ab"], optimizer="lion")


def test_defaults_are_those_of_the_rules(open_session: Open) -> None:
    session = open_session(NATIVE[0], RNN.config, RNN.documents, RNN.chars)
    default = How(1, 0.0)
    said: dict[str, Any] = session.settings._asdict()
    assert default == replace(default, **said)
