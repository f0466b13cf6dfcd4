"""Every op's derivative rule against finite differences of its meaning, in float64; an op without a case here fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import pytest

from eegen.language.graph import OPS, Expression, Graph, Op, Value
from eegen.language.ops.row import EPS
from eegen.language.ops.sparse import largest
from eegen.language.oracle import Oracle
from eegen.language.rows import batch_rows
from eegen.models import MODELS, build_graph, tensor_shapes
from eegen.models.config import ModelConfig
from eegen.targets.vocabulary import ACROSS, CORE, Word

VOCAB, BLOCK = 5, 6
ROWS = batch_rows([[0, 1, 2, 3], [0, 1, 1], [0, 1], [2], [2, 1, 0, 3, 3, 1]], VOCAB - 1, BLOCK)


@dataclass(frozen=True)
class Case:
    """An op on operands of random numbers: `(domain, extents...)` each, a domain of `param` for a parameter."""

    op: str
    operands: tuple[tuple[Any, ...], ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        domains = "-".join(operand[0] for operand in self.operands)
        return "-".join([self.op, domains, *map(str, self.attrs.values())])


ROW, PAIR = ("prefix", 4), ("pair", 4)
CASES = [
    Case("add", (ROW, ROW)),
    Case("sub", (ROW, ROW)),
    Case("negative", (ROW,)),
    Case("mul", (ROW, ROW)),
    Case("relu", (ROW,)),
    Case("relu2", (ROW,)),
    Case("tanh", (ROW,)),
    Case("sigmoid", (ROW,)),
    Case("bias", (ROW, ("param", 4))),
    Case("gain", (PAIR, ("param", 4))),
    Case("rms", (ROW,)),
    Case("lookup", (("param", VOCAB, 4),), {"by": "token"}),
    Case("lookup", (("param", BLOCK, 4),), {"by": "position"}),
    Case("spread", (PAIR,)),
    Case("linear", (ROW, ("param", 3, 4))),
    Case("attention", (("prefix", 12),), {"heads": 2}),
    Case("attention", (("pair", 12),), {"heads": 1}),
    Case("context", (("param", VOCAB, 2),), {"length": 3}),
    Case("top_linear", (ROW, ("param", 3, 4)), {"top_k": 2}),
    Case("top_linear", (ROW, ("param", 3, 4)), {"top_k": 4}),
    Case("cross_entropy", (("prefix", VOCAB),)),
]


GIVEN = Op("given", "given", lambda inputs, attrs, domain: ((), domain), lambda rows: np.zeros(0))


WORDS = {word.name.removeprefix("v_"): word for word in (*CORE, *ACROSS)}


def meaning_of(word: Word) -> Callable[..., Any]:
    """A word of the vocabulary as a function of NumPy, on a row as one vector."""

    def run(*operands: Any) -> Any:
        return eval(word.numpy, {"np": np, "abs": np.abs, "L": 1, **dict(zip(word.operands, operands, strict=True))})

    return run


def in_numpy(expression: Expression, operands: Sequence[np.ndarray]) -> np.ndarray:
    """An entry of the result for each entry of the operands [rows][width], by the meanings of the words."""
    known: dict[str, Any] = {name: meaning_of(word) for name, word in WORDS.items()} | dict(zip("abc", operands))

    def value(text: str) -> Any:
        return eval(re.sub(r"(\d\.\d+)f\b", r"\1", text), known)

    known |= {"mean": 1 / operands[0].shape[1], "eps": EPS}
    for i, (left, right) in enumerate(expression.sums):
        known[f"q{i}"] = (known[left] * known[right]).sum(1, keepdims=True)
    for i, scalar in enumerate(expression.scalars):
        known[f"s{i}"] = value(scalar)
    return np.asarray(value(expression.value))


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.expression])
def test_the_c_of_an_op_means_what_its_numpy_does(name: str) -> None:
    """In the words of the vocabulary's manifest; of results of relu where an op reads those."""
    op, random = OPS[name], np.random.default_rng(9)
    assert op.expression is not None
    count = len(signature(op.meaning).parameters) - 1
    operands = [3 * random.normal(size=(7, 5)) for _ in range(count)]
    if name in ("relu_grad", "relu2_grad"):
        operands[1] = np.maximum(operands[1], 0)
    assert in_numpy(op.expression, operands) == pytest.approx(op.meaning(ROWS, *operands), rel=1e-12, abs=1e-12)


def leaf(graph: Graph, shape: tuple[int, ...], domain: Any) -> Value:
    if domain == "param":
        return graph.parameter(f"p{len(graph.values)}", *shape)
    # Queries, keys and values come stacked.
    return graph.add(Value(GIVEN, (), (3, shape[0] // 3) if shape == (12,) else shape, domain))


def extents(value: Value) -> tuple[int, ...]:
    rows = {"prefix": (ROWS.prefixes,), "pair": (ROWS.pairs,)}.get(value.domain)
    return value.shape if rows is None else (*rows, value.width)


def evaluate(graph: Graph, known: dict[Value, Any]) -> dict[Value, Any]:
    known = dict(known)
    for value in graph.values:
        if value not in known:
            known[value] = value.op.meaning(ROWS, *(known[v] for v in value.inputs), **value.attrs)
    return known


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.derivative])
def test_every_op_with_a_derivative_has_a_case(op: str) -> None:
    assert any(case.op == op for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_match_finite_differences(case: Case) -> None:
    random = np.random.default_rng(3)
    graph = Graph()
    operands = [leaf(graph, tuple(shape), domain) for domain, *shape in case.operands]
    result = graph.apply(case.op, *operands, **case.attrs)
    known = {v: random.normal(size=extents(v)) for v in operands}
    weights = random.normal(size=extents(result))

    def total() -> float:
        return float((evaluate(graph, known)[result] * weights).sum())

    numeric = {}
    for operand in operands:
        numeric[operand] = np.zeros_like(known[operand])
        for at in np.ndindex(known[operand].shape):
            old, differ = known[operand][at], []
            for move in (1e-6, -1e-6):
                known[operand][at] = old + move
                differ.append(total())
            known[operand][at] = old
            numeric[operand][at] = (differ[0] - differ[1]) / 2e-6

    rule = OPS[case.op].derivative
    assert rule is not None
    dy = graph.add(Value(GIVEN, (), result.shape, result.domain))
    gradients = dict(zip(result.inputs, rule(graph, result, dy), strict=True))
    found = evaluate(graph, {**known, dy: weights})
    for operand in operands:
        gradient = gradients[operand]
        assert gradient is not None
        assert found[gradient] == pytest.approx(numeric[operand], rel=1e-6, abs=1e-8)


OPTIONS = {
    "gpt": ModelConfig(
        d_model=4,
        n_heads=2,
        n_layers=2,
        activation="relu2",
        norm_gains=True,
        final_norm=True,
        tie_embeddings=True,
        vocab_size=VOCAB,
    ),
    "rnn": ModelConfig("rnn", d_model=3, d_state=4, vocab_size=VOCAB),
    "rnn-sparse": ModelConfig("rnn-sparse", d_model=3, d_state=5, top_k=2, vocab_size=VOCAB),
    "gru": ModelConfig("gru", d_model=3, d_state=4, vocab_size=VOCAB),
    "mlp": ModelConfig("mlp", d_embed=2, d_hidden=4, vocab_size=VOCAB),
    "bigram": ModelConfig("bigram", vocab_size=VOCAB),
    "bigram-count": ModelConfig("bigram-count", vocab_size=VOCAB),
}


@pytest.mark.parametrize("model", MODELS)
def test_the_oracles_gradients_match_finite_differences(model: str) -> None:
    """Along one random direction of each tensor."""
    oracle, random = Oracle(*build_graph(OPTIONS[model])), np.random.default_rng(5)
    tensors = {name: random.normal(size=shape) for name, shape in tensor_shapes(OPTIONS[model]).items()}
    _, gradients = oracle.loss_and_gradients(ROWS, tensors)
    for name, gradient in gradients.items():
        way = random.normal(size=gradient.shape)
        moved = ({**tensors, name: tensors[name] + step * way} for step in (1e-6, -1e-6))
        up, down = (oracle.loss_and_gradients(ROWS, there)[0] for there in moved)
        assert (gradient * way).sum() == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8), name


def test_of_equal_entries_the_first_are_the_largest() -> None:
    assert np.flatnonzero(largest(np.array([[0.0, 2.0, 1.0, 2.0, 1.0, 2.0]]), 4)[0]).tolist() == [1, 2, 3, 5]
    assert np.flatnonzero(largest(np.array([[0.0, 2.0, -1.0, 0.0]]), 4)[0]).tolist() == [1]


@pytest.mark.parametrize(
    ("model", "options", "count"),
    [
        ("gpt", {}, 4192),
        ("gpt", {"final_norm": True}, 4192),
        ("gpt", {"norm_gains": True, "final_norm": True}, 4240),
        ("gpt", {"tie_embeddings": True}, 4192 - 27 * 16),
        ("mlp", {}, 4009),
        ("bigram", {}, 729),
        ("bigram-count", {}, 729),
        ("rnn", {}, (27 + 16) * 16 + 2 * 32 * 16 + 32 * 32 + 27 * 32),
        ("gru", {}, (27 + 16) * 16 + 3 * (32 * 16 + 32 * 32 + 32) + 27 * 32),
        ("rnn-sparse", {}, (27 + 16) * 16 + 2 * 32 * 16 + 32 * 32 + 27 * 32),
    ],
    ids=lambda value: "-".join(value) or "default" if isinstance(value, dict) else str(value),
)
def test_a_model_has_as_many_parameters_as_it_should(model: str, options: dict[str, Any], count: int) -> None:
    tensors = tensor_shapes(ModelConfig(**{**ModelConfig(model).as_dict(), **options}))
    assert sum(int(np.prod(shape)) for shape in tensors.values()) == count
