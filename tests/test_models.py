"""Every model of the family, and the options of the GPT, on every target against the float64 oracle."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machines import EACH_TARGET, EVERY, NATIVE, Machine, parameters, sample
from test_targets import LETTERS, NAMES, Case, check_adam, check_gradients, draws, worst

import eegen.models
from eegen.errors import EegenError
from eegen.language.rows import batch_rows
from eegen.model import Model
from eegen.models import FITS, MODELS
from eegen.models.config import ModelConfig, find_models, model_config, option_table
from eegen.plan.build_config import BuildConfig
from eegen.plan.planner import make_plan
from eegen.run.session import Session

Open = Callable[..., Session]

DOCUMENTS = [*NAMES[:7], "emma", "a", "abcdefghijklmnopqrstuvwxyz", "em"]


def case(name: str, model: str = "gpt", **options: Any) -> Case:
    return Case(name, model_config(model, **options), DOCUMENTS)


CASES = [
    case("gpt-gains", norm_gains=True),
    case("gpt-final-norm", final_norm=True),
    case("gpt-tied", tie_embeddings=True, d_model=12, n_heads=3),
    case("gpt-gains-final-norm-tied-2layers", norm_gains=True, final_norm=True, tie_embeddings=True, n_layers=2),
    case("rnn", "rnn"),
    case("rnn-odd", "rnn", d_model=9, d_state=21, block_size=7),
    case("rnn-wide", "rnn", d_state=128),
    case("rnn-1", "rnn", d_model=1, d_state=1, block_size=2),
    case("rnn-sparse", "rnn-sparse"),
    case("rnn-sparse-odd", "rnn-sparse", d_model=7, d_state=45, top_k=5),
    case("rnn-sparse-wide", "rnn-sparse", d_state=160, top_k=11, block_size=5),
    case("rnn-sparse-all", "rnn-sparse", d_state=18, top_k=18),
    case("gru", "gru"),
    case("gru-odd", "gru", d_model=9, d_state=21, block_size=7),
    case("mlp", "mlp"),
    case("mlp-odd", "mlp", context=4, d_embed=7, d_hidden=19, block_size=9),
    case("mlp-one-character", "mlp", context=1),
    case("bigram", "bigram"),
]


@pytest.fixture(params=CASES, ids=str)
def model(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield request.param


def opened(session: Open, case: Case, machine: Machine, **options: Any) -> Session:
    """A session on the case's documents as one batch, its biases and gains away from zero and one."""
    options = {"spread": 2.0, "batch": len(case.documents), "random": False, **options}
    made = session(machine, case.config, case.documents, case.chars, **options)
    random = np.random.default_rng(1)
    for weights in made.parameters.values():
        if weights.ndim == 1:
            weights += random.normal(0, 0.2, weights.shape).astype(np.float32)
    return made


def test_every_model_has_a_case() -> None:
    tested = {case.config.model for case in CASES} | set(FITS)
    assert tested >= set(MODELS) - {"gpt"}


@pytest.mark.parametrize("machine", parameters(EVERY))
def test_gradients_and_adam_match_the_oracle(model: Case, machine: Machine, open_session: Open) -> None:
    session = opened(open_session, model, machine)
    check_gradients(model, session)
    check_adam(model, session)


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
def test_sharing_rows_changes_nothing(model: Case, machine: Machine, open_session: Open) -> None:
    losses, gradients, rows = [], [], []
    for sharing in (True, False):
        session = opened(open_session, model, machine, sharing=sharing)
        session.gradient(np.arange(len(model.documents), dtype=np.int32))
        rows.append(session.rows.prefix)
        gradients.append({name: value.copy() for name, value in session.gradients.items()})
        losses.append(session.train(np.full(4, 0.01, np.float32)))
    assert rows[0] < rows[1]
    assert worst(*gradients) < 1e-5
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
def test_samples_are_the_oracles_draws(model: Case, machine: Machine, open_session: Open) -> None:
    """So the state that a sampler carries from level to level is the state of the whole prefix."""
    session = opened(open_session, model, machine, spread=4.0)
    texts = sample(machine, session, 100 if machine.native else 20, 1.0, [0], seed=7)
    wrong, close = draws(model, session, texts, 1.0, 1, seed=7)
    assert wrong == 0
    assert close < 0.01 * sum(map(len, texts)) + 3


@pytest.mark.parametrize("machine", parameters([m for m in NATIVE if m.native]))
def test_threads_change_nothing(model: Case, machine: Machine, open_session: Open) -> None:
    losses = [
        opened(open_session, model, machine, batch=60, threads=threads).train(np.full(4, 0.01, np.float32))
        for threads in (1, 3)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_recurrent_state_is_computed_once_a_prefix(open_session: Open) -> None:
    """The rows of a batch are its distinct prefixes, however often each occurs."""
    session = open_session(NATIVE[0], model_config("rnn"), ["abc", "abd", "abc", "a"], LETTERS, batch=4, random=False)
    session.gradient(np.arange(4, dtype=np.int32))
    assert session.rows.prefix == 5


def test_counts_of_bigrams_give_their_shares(open_session: Open) -> None:
    documents = ["ab", "ab", "b"]
    session = open_session(NATIVE[0], ModelConfig("bigram-count", vocab_size=3), documents, "ab")
    session.fit()
    table = np.exp(session.parameters["table"])
    # a is followed by b twice; b by the boundary three times; the boundary by a twice and by b once: one more each.
    assert table * [[5], [6], [6]] == pytest.approx(np.array([[1, 3, 1], [1, 1, 4], [3, 2, 1]]), rel=1e-6)
    rows = batch_rows([[0, 1], [0, 1], [1]], 2, 16)
    shares = table[rows.token[rows.position_row], rows.target]
    assert session.loss() == pytest.approx(-np.log(shares).mean(), rel=1e-6)


def test_bigrams_reach_the_loss_of_their_counts(open_session: Open) -> None:
    """The loss over the names is known from other programs: 2.4546 by counts of another split."""
    count = open_session(NATIVE[0], ModelConfig("bigram-count"), NAMES, LETTERS)
    count.fit()
    assert count.loss() == pytest.approx(2.4546, abs=0.01)


def test_counting_is_a_run_of_one_step_that_refuses_a_learning_rate() -> None:
    model = Model("bigram-count", data=["ab", "ab", "b"], target="scalar")
    run = model.train()
    assert run.steps == 1
    assert run.mean_loss == pytest.approx(model.evaluate())
    with pytest.raises(EegenError, match="`lr` means nothing to the model 'bigram-count'"):
        model.train(lr=0.1)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("gpt", 12 * 16 * 16 + 27 * 16),
        ("rnn", 2 * 16 * 32 + 32 * 32 + 27 * 32),
        ("rnn-sparse", 2 * 16 * 32 + 16 * 32 + 27 * 32),
        ("mlp", 30 * 64 + 64 * 27),
        ("bigram", 0),
    ],
)
def test_the_weights_that_flops_count(model: str, weights: int) -> None:
    assert make_plan(BuildConfig(model_config(model), "scalar")).matmul_weights == weights


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": "wide"}, "`d_model` is 'wide'; it must be a whole number"),
        ({"d_model": 16.0}, "`d_model` is 16.0; it must be a whole number"),
        ({"n_layers": True}, "`n_layers` is True; it must be a whole number"),
        ({"norm_gains": 1}, "`norm_gains` is 1; it must be true or false"),
        ({"activation": 7}, "`activation` is 7; it must be a string"),
        ({"activation": "gelu"}, "`activation` is 'gelu'; it must be one of relu, relu2"),
        ({"d_model": None}, "`d_model` is None; it must be a whole number"),
        ({"d_ff": 8193}, "`d_ff` is 8193; it must be 1 to 8192"),
        ({"top_k": 3}, "`top_k` means nothing to the model 'gpt'"),
        ({"depth": 3}, "unknown model option 'depth'"),
        ({"model": "rnn-sparse", "top_k": 33}, "`top_k` 33 is more than `d_state` 32"),
    ],
)
def test_options_are_checked_by_the_table_of_their_model(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EegenError, match=re.escape(message)):
        ModelConfig(**options)


def test_a_configuration_is_a_value() -> None:
    config = ModelConfig(d_model=np.int64(20), n_heads=4, norm_gains=np.bool_(True))
    assert config == ModelConfig(n_heads=4, d_model=20, norm_gains=True, d_ff=80)
    assert hash(config) == hash(ModelConfig(**config.as_dict()))
    assert config != ModelConfig(d_model=24)
    assert (type(config.d_model), type(config.norm_gains)) == (int, bool)
    assert pickle.loads(pickle.dumps(config)) == config
    json.dumps(config.as_dict())
    with pytest.raises(AttributeError):
        config.d_model = 3  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'd_state'"):
        _ = config.d_state


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({}, "gpt-d16"),
        ({"d_model": 64, "n_heads": 8, "d_ff": 256}, "gpt-d64-h8"),
        ({"d_ff": 32, "block_size": 8, "vocab_size": 30}, "gpt-d16-v30-b8-ff32"),
        ({"activation": "relu2", "tie_embeddings": True, "n_layers": 2}, "gpt-d16-l2-relu2-tied"),
        ({"model": "rnn-sparse", "d_state": 64}, "rnn-sparse-d16-s64"),
        ({"model": "mlp", "context": 4}, "mlp-c4"),
    ],
)
def test_titles_say_what_differs_from_the_defaults(options: dict[str, Any], title: str) -> None:
    assert ModelConfig(**options).title == title


NEW_MODEL = """
from eegen.models.config import ModelSpec
from eegen.options import Option

def average(g, c):
    embedding = g.parameter("tok_emb", c.vocab_size, c.width, role="embedding")
    head = g.parameter("lm_head", c.vocab_size, c.width, role="head")
    return g.apply("linear", g.apply("lookup", embedding, by="token"), head, label="logits")

MODEL = ModelSpec("average", average, (Option("width", int, 8, range=(1, 64), short="w", help="Width of a row."),))
"""


@pytest.fixture
def new_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A model from one new file of a folder of models."""
    (tmp_path / "average.py").write_text(NEW_MODEL)
    monkeypatch.setattr(eegen.models, "__path__", [*eegen.models.__path__, str(tmp_path)])
    for cached in (find_models, option_table):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    sys.modules.pop("eegen.models.average", None)
    for cached in (find_models, option_table):
        cached.cache_clear()


@pytest.mark.usefixtures("new_model")
def test_a_model_is_one_new_file() -> None:
    """Its options, their checks, the title, the command line and the training come from that file alone."""
    assert model_config("average", width=12).title == "average-w12"
    with pytest.raises(EegenError, match="`width` is 65; it must be 1 to 64"):
        model_config("average", width=65)
    assert option_table()["width"].help_text == "Width of a row (average). [default: 8]"
    assert "average" in option_table()["model"].help
    model = Model("average", width=12, data=["ab", "ba", "b"], target="scalar")
    run = model.train(steps=20, lr=0.1)
    assert run.loss[-1] < run.loss[0]
    assert "eegen build --model average --width 12" in model.source
