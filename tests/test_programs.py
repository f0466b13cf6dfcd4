"""What a plan promises of its programs: what each holds, how long its buffers live, how its entries fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from machines import ARM, NATIVE, Machine, open_infer_session, parameters

from eegen.language.autodiff import backward
from eegen.language.graph import Graph, Value
from eegen.language.oracle import Oracle
from eegen.language.rows import batch_rows
from eegen.models import MODELS
from eegen.models.config import ModelConfig
from eegen.plan.build_config import BuildConfig
from eegen.plan.kernels.matrix import Outer
from eegen.plan.planner import make_plan
from eegen.plan.records import Plan
from eegen.run.data import build_dataset
from eegen.run.session import Session
from eegen.targets import TARGETS

Open = Callable[..., Session]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
THREE_LAYERS = ModelConfig(d_model=16, n_layers=3)


def infer_plan(config: ModelConfig, target: str = "avx2") -> Plan:
    return make_plan(BuildConfig(config, target, programs=("infer",)))


@pytest.mark.parametrize("model", [name for name in MODELS if name != "bigram-count"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_program_that_infers_has_nothing_of_training(model: str, target: str) -> None:
    plan = infer_plan(ModelConfig(model), target)
    assert plan.train is None
    (program,) = plan.programs
    assert set(program.procedures) == {"forward", "loss"}
    assert not any(arg.space in ("gradient", "sum") for call in program.calls for arg in call.args)
    assert not any(isinstance(kernel, Outer) for kernel in plan.kernels)
    assert not any(parameter.fused for parameter in plan.parameters)
    assert plan.sums_size == plan.work == 0


def test_its_c_has_no_word_of_training() -> None:
    from eegen.run.sources import library_source

    text = library_source(infer_plan(ModelConfig()))
    for word in ("gradients_of", "m_of", "next_batch", "eegen_train", "rates", "find_rows"):
        assert word not in text
    assert "eegen_sample" in text


def test_a_matrix_that_is_read_one_way_has_one_copy() -> None:
    assert infer_plan(ModelConfig(), "neon").packed_size == 0
    assert make_plan(BuildConfig(ModelConfig(), "neon")).packed_size > 0


@pytest.mark.parametrize("target", TARGETS)
def test_what_later_calls_read_has_memory_of_its_own(target: str) -> None:
    """Keys and values of three layers are three caches; training alone lets buffers share what is read no more."""
    program = infer_plan(THREE_LAYERS, target).infer
    assert program
    caches = [buffer for buffer in program.buffers.values() if buffer.lifetime == "cache"]
    assert len(caches) == 3 and all(buffer.name.startswith("qkv") for buffer in caches)
    slots = [buffer.slot for buffer in program.buffers.values()]
    assert all(slots.count(buffer.slot) == 1 for buffer in caches)
    assert len(set(slots)) < len(slots)
    train = make_plan(BuildConfig(THREE_LAYERS, target)).train
    assert train and all(buffer.lifetime == "call" for buffer in train.buffers.values())


def test_the_state_of_a_recurrence_is_a_cache() -> None:
    program = infer_plan(ModelConfig("gru")).infer
    assert program and [b.name for b in program.buffers.values() if b.lifetime == "cache"] == ["h"]


def test_plans_and_their_parts_cannot_be_changed() -> None:
    plan = make_plan(BuildConfig(ModelConfig(), "avx2"))
    assert plan.train
    for record in (plan, plan.train, plan.train.calls[0], plan.kernels[0], plan.parameters[0]):
        with pytest.raises(AttributeError):
            record.name = "other"  # type: ignore[union-attr, misc]
    assert replace(plan, matmul_weights=1) != plan


@pytest.mark.parametrize("machine", parameters([*NATIVE, *ARM[:2]]))
@pytest.mark.parametrize(
    ("model", "optimizer"), [("gpt", "adam"), ("gpt", "sgd"), ("gpt", "muon"), ("gru", "adam"), ("mlp", "lion")]
)
def test_a_gradient_and_an_update_are_a_fused_step(
    model: str, optimizer: str, machine: Machine, open_session: Open, names: list[str]
) -> None:
    """So a sum over machines fits between them."""
    documents, lr = names[:6], 0.01
    fused, apart = (
        open_session(
            machine, ModelConfig(model), documents, LETTERS, spread=3.0, batch=6, random=False, optimizer=optimizer
        )
        for _ in range(2)
    )
    for _ in range(3):
        fused.train(np.full(1, lr, np.float32))
        apart.gradient(np.arange(6))
        apart.update(lr)
    assert fused.counters.step == apart.counters.step == 3
    for name, weights in fused.parameters.items():
        assert apart.parameters[name] == pytest.approx(weights, abs=3e-5), name
    for name, state in fused.optimizer.items():
        assert apart.optimizer[name] == pytest.approx(state, rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("machine", parameters([*NATIVE, ARM[0]]))
@pytest.mark.parametrize("model", [name for name in MODELS if name != "bigram-count"])
def test_the_loss_of_the_program_that_infers_is_that_of_training(
    model: str, machine: Machine, open_session: Open, names: list[str]
) -> None:
    config = ModelConfig(model)
    session = open_session(machine, config, names[:90], LETTERS, spread=3.0, batch=30)
    infer = open_infer_session(machine, session, 17)
    assert infer.loss(build_dataset(names[:90], LETTERS, config.block_size)) == pytest.approx(session.loss(), rel=1e-6)
    infer.close()


def two_products(graph: Graph, c: ModelConfig) -> Value:
    """One matrix in two products, on values of two row domains."""
    table = graph.parameter("tok_emb", c.vocab_size, 20, role="embedding")
    w = graph.parameter("w", 20, 20)
    head = graph.parameter("lm_head", c.vocab_size, 20, role="head")
    x = graph.apply("lookup", table, by="token")
    h = graph.apply("relu", graph.apply("linear", x, w), label="h")
    h = graph.apply("linear", graph.apply("add", h, graph.apply("rms", h)), w, label="twice")
    return graph.apply("linear", h, head, label="logits")


@pytest.mark.parametrize("machine", parameters([*NATIVE, *ARM[:2]]))
def test_one_weight_in_two_products(
    machine: Machine, open_session: Open, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(MODELS["bigram"], name="two-products", build=two_products)
    monkeypatch.setattr("eegen.models.config.find_model", lambda name: spec if name == spec.name else MODELS[name])
    config, documents = ModelConfig(spec.name, block_size=9), names[:7]
    tokens = [[LETTERS.index(c) for c in document] for document in documents]
    for threads in (1, 3) if machine.native else (1,):
        session = open_session(machine, config, documents, LETTERS, spread=3.0, batch=7, random=False, threads=threads)
        graph = Graph()
        oracle = Oracle(graph, two_products(graph, config))
        weights = {name: np.array(value, np.float64) for name, value in session.parameters.items()}
        loss, gradients = oracle.loss_and_gradients(batch_rows(tokens, 26, 9), weights)
        assert session.gradient(np.arange(7)) == pytest.approx(loss, rel=1e-6)
        for name, gradient in gradients.items():
            assert session.gradients[name] == pytest.approx(gradient, abs=1e-5 * np.abs(gradient).max())
        before = session.train(np.full(1, 0.01, np.float32))[0]
        assert session.train(np.full(3, 0.01, np.float32))[-1] < before


def test_backward_needs_nothing_but_the_records_of_ops() -> None:
    graph = Graph()
    w = graph.parameter("w", 3, 4)
    x = graph.apply("lookup", graph.parameter("t", 5, 4, role="embedding"), by="token")
    gradients = backward(graph, graph.apply("cross_entropy", graph.apply("linear", x, w)))
    assert [term.op.name for term in gradients[w]] == ["outer"]
