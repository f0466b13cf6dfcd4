"""The optimizers' rules in float64: each against what its definition promises."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from eegen.language.optimizers import OPTIMIZERS, How, advance, clipped, first_slots, matrix_parameters, orthogonal
from eegen.models import build_graph
from eegen.models.config import ModelConfig

RANDOM = np.random.default_rng(11)
WEIGHTS = {"a": RANDOM.normal(size=(3, 5)), "b": RANDOM.normal(size=4)}


def gradients() -> dict[str, Any]:
    return {name: RANDOM.normal(size=w.shape) for name, w in WEIGHTS.items()}


def run(name: str, steps: list[dict[str, Any]], hidden: Collection[str] = (), **how: Any) -> dict[str, Any]:
    optimizer, weights = OPTIMIZERS[name], dict(WEIGHTS)
    slots = first_slots(optimizer, weights)
    for i, g in enumerate(steps):
        weights, slots = advance(optimizer, How(step=i + 1, **{"lr": 0.1, **how}), weights, g, slots, hidden)
    return weights


def test_the_optimizers_and_the_constants_of_adam_are_the_published_ones() -> None:
    assert set(OPTIMIZERS) == {"adam", "adamw", "sgd", "lion", "muon"}
    assert (How(1, 0).beta1, How(1, 0).beta2, How(1, 0).eps) == (0.85, 0.99, 1e-8)


def test_the_first_step_of_adam_is_the_learning_rate() -> None:
    moved = run("adam", [gradients()])
    for name, w in WEIGHTS.items():
        assert np.abs(moved[name] - w) == pytest.approx(np.full(w.shape, 0.1), rel=1e-6)


def test_adam_is_as_published() -> None:
    steps = [gradients() for _ in range(3)]
    w, m, v = WEIGHTS["a"], np.zeros((3, 5)), np.zeros((3, 5))
    for i, g in enumerate(steps):
        m, v = 0.85 * m + 0.15 * g["a"], 0.99 * v + 0.01 * g["a"] ** 2
        w = w - 0.1 * (m / (1 - 0.85 ** (i + 1))) / (np.sqrt(v / (1 - 0.99 ** (i + 1))) + 1e-8)
    assert run("adam", steps)["a"] == pytest.approx(w)


def test_adamw_decays_weights_beside_adams_step() -> None:
    g = gradients()
    plain, decayed = run("adam", [g]), run("adamw", [g], weight_decay=0.5)
    for name, w in WEIGHTS.items():
        assert decayed[name] == pytest.approx(plain[name] - 0.1 * 0.5 * w)


def test_sgd_sums_gradients_with_momentum() -> None:
    one, two = gradients(), gradients()
    moved = run("sgd", [one, two], momentum=0.5)
    assert moved["a"] == pytest.approx(WEIGHTS["a"] - 0.1 * one["a"] - 0.1 * (0.5 * one["a"] + two["a"]))


def test_lion_moves_every_weight_by_the_learning_rate() -> None:
    one, two = gradients(), gradients()
    moved = run("lion", [one, two], beta1=0.9, beta2=0.99)
    way = np.sign(one["a"]) + np.sign(0.9 * 0.01 * one["a"] + 0.1 * two["a"])
    assert moved["a"] == pytest.approx(WEIGHTS["a"] - 0.1 * way)
    decayed = run("lion", [one], weight_decay=0.3)
    assert decayed["b"] == pytest.approx(WEIGHTS["b"] - 0.1 * (np.sign(one["b"]) + 0.3 * WEIGHTS["b"]))


@pytest.mark.parametrize("shape", [(8, 8), (24, 6), (6, 24)], ids=str)
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    g = np.random.default_rng(2).normal(size=shape)
    u, s, v = np.linalg.svd(g, full_matrices=False)
    found = orthogonal(g)
    singular = np.linalg.svd(found, compute_uv=False)
    clear = s > 0.1 * s.max()
    assert (singular[clear] > 0.6).all() and (singular < 1.3).all()
    assert np.linalg.norm(found - u @ v) < 0.35 * np.linalg.norm(u @ v)


def test_muon_leaves_what_is_no_hidden_matrix_to_adam() -> None:
    g = gradients()
    moved = run("muon", [g], {"a"}, momentum=0.5, weight_decay=0.2)
    step = orthogonal(1.5 * g["a"])  # 3 x 5: no scale
    assert moved["a"] == pytest.approx(WEIGHTS["a"] - 0.1 * (step + 0.2 * WEIGHTS["a"]))
    assert moved["b"] == pytest.approx(run("adam", [g], lr=0.1 * OPTIMIZERS["muon"].share)["b"])


def test_matrix_parameters_are_no_embedding_no_head_no_gain() -> None:
    graph, _ = build_graph(ModelConfig(norm_gains=True))
    assert matrix_parameters(graph) == {f"layers.0.{name}" for name in ("wq", "wk", "wv", "wo", "w1", "w2")}
    assert matrix_parameters(build_graph(ModelConfig("rnn"))[0]) == {"p_tok", "p_pos", "m"}
    assert matrix_parameters(build_graph(ModelConfig("mlp"))[0]) == {"w1"}
    assert matrix_parameters(build_graph(ModelConfig("bigram"))[0]) == set()


def test_clipping_bounds_the_norm_of_all_gradients_together() -> None:
    g = gradients()
    norm = np.sqrt(sum((x * x).sum() for x in g.values()))
    small = clipped(g, norm / 4)
    assert np.sqrt(sum((x * x).sum() for x in small.values())) == pytest.approx(norm / 4)
    assert small["a"] / g["a"] == pytest.approx(np.full((3, 5), 0.25))
    for clip in (0.0, norm * 2):
        assert clipped(g, clip)["a"] == pytest.approx(g["a"])
    assert run("sgd", [g], clip=norm / 4)["b"] == pytest.approx(WEIGHTS["b"] - 0.1 * g["b"] / 4)
