"""The loss kernel alone against NumPy, on every target: odd vocabularies, rows and positions that repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_alone import Alone, program_fixture, target_of
from machines import ARM, EACH_TARGET, NATIVE, Machine, parameters

from eegen.language.oracle import Oracle
from eegen.language.rows import batch_rows
from eegen.models import build_graph
from eegen.models.config import ModelConfig
from eegen.plan.kernels.loss import Loss
from eegen.run.data import load_documents
from eegen.run.session import Session

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARIES = [1, 2, 3, 4, 5, 8, 15, 16, 17, 27, 31, 32, 33, 64, 77, 128]
COVERS = ("loss",)
MACHINES = parameters(EACH_TARGET)


@dataclass
class Batch:
    """Rows of logits, the positions at them and their targets; what a kernel finds in the arena."""

    kernel: Loss
    logits: np.ndarray  # [rows][ld], 0 past the vocabulary
    row: np.ndarray  # of each position
    target: np.ndarray

    def expected(self) -> tuple[float, np.ndarray]:
        """(loss summed over the positions, gradient [rows][vocabulary]) in float64."""
        x = self.logits[:, : self.kernel.vocab].astype(np.float64)
        p = np.exp(x - x.max(1, keepdims=True))
        log = np.log(p.sum(1)) + x.max(1)
        p /= p.sum(1, keepdims=True)
        counts = np.zeros_like(p)
        np.add.at(counts, (self.row, self.target), 1)
        gradient = (p * counts.sum(1, keepdims=True) - counts) / len(self.row)
        return float((log[self.row] - x[self.row, self.target]).sum()), gradient


@dataclass
class Call:
    """A call of the kernel, queued."""

    alone: Alone
    batch: Batch
    rows: tuple[int, int]
    positions: tuple[int, int]

    def __post_init__(self) -> None:
        batch = self.batch
        self.result, self.target_counts = batch.logits.copy(), np.zeros_like(batch.logits)
        state = {
            "count": len(batch.row),
            "at_count": np.bincount(batch.row, minlength=len(batch.logits)).astype(np.int32),
            "at_target_at": batch.row.astype(np.int64) * batch.kernel.ld + batch.target,
            "at_target_counts": self.target_counts,
        }
        self.alone.queue(batch.kernel, state, logits=self.result, all=self.rows, positions=self.positions)


def run(calls: list[Call]) -> list[tuple[float, np.ndarray]]:
    """What each call returns and leaves in the place of the logits; its counts must be zero again."""
    losses = calls[0].alone.run()
    assert not any(call.target_counts.any() for call in calls)
    return [(loss, call.result) for loss, call in zip(losses, calls, strict=True)]


def make_batch(kernel: Loss, rows: int, positions: int, spread: float = 3.0) -> Batch:
    """Positions at every row, in the order of the rows, so that a part of the rows has a part of the positions."""
    rng = np.random.default_rng(rows + kernel.vocab)
    logits = np.zeros((rows, kernel.ld), np.float32)
    logits[:, : kernel.vocab] = spread * rng.normal(size=(rows, kernel.vocab))
    row = np.sort(np.concatenate([np.arange(rows), rng.integers(0, max(rows, 1), positions - rows)]))
    return Batch(kernel, logits, row, rng.integers(0, min(kernel.vocab, 5), positions))


@program_fixture
def program(machine: Machine, folder: Path) -> Alone:
    unit = max(target_of(machine).lanes, 4)
    widths = [-(-vocab // unit) * unit for vocab in VOCABULARIES]
    kernels = [Loss(vocab, width) for vocab, width in zip(VOCABULARIES, widths, strict=True)]
    kernels.append(Loss(128, 128 + 16))  # rows apart
    kernels.append(Loss(120, 128 + 16))
    kernels = [replace(kernel, name=f"{kernel.stem}_{kernel.ld}") for kernel in kernels]
    return Alone(machine, kernels, folder)


@pytest.mark.parametrize("rows", [1, 3, 4, 31, 71])
@pytest.mark.parametrize("machine", MACHINES)
def test_loss_and_gradient_equal_numpy(machine: Machine, rows: int, program: Any) -> None:
    alone = program(machine)
    calls = [Call(alone, make_batch(kernel, rows, 3 * rows), (0, rows), (0, 3 * rows)) for kernel in alone.kernels]
    for call, (loss, result) in zip(calls, run(calls), strict=True):
        kernel, (expected_loss, gradient) = call.batch.kernel, call.batch.expected()
        assert loss == pytest.approx(expected_loss, rel=1e-6, abs=1e-6), kernel.name
        np.testing.assert_allclose(
            result[:, : kernel.vocab], gradient, rtol=0, atol=1e-6 * np.abs(gradient).max(), err_msg=kernel.name
        )
        assert (result[:, kernel.vocab :] == 0).all()


@pytest.mark.parametrize("machine", MACHINES)
def test_a_part_of_the_rows_leaves_the_others(machine: Machine, program: Any) -> None:
    alone = program(machine)
    lo, hi = 5, 38
    for kernel in alone.kernels:
        batch = make_batch(kernel, 40, 90)
        first, end = np.searchsorted(batch.row, [lo, hi]).tolist()
        parts = [((lo, hi), (first, end)), ((0, lo), (0, first)), ((hi, 40), (end, 90)), ((7, 7), (first, first))]
        (loss, result), *rest, (nothing, same) = run([Call(alone, batch, *part) for part in parts])
        expected_loss, gradient = batch.expected()
        np.testing.assert_allclose(result[lo:hi, : kernel.vocab], gradient[lo:hi], rtol=0, atol=1e-7)
        others = [*range(lo), *range(hi, 40)]
        assert np.array_equal(result[others], batch.logits[others])
        assert loss + sum(other for other, _ in rest) == pytest.approx(expected_loss, rel=1e-6)
        assert nothing == 0 and np.array_equal(same, batch.logits)


@pytest.mark.parametrize("machine", MACHINES)
def test_positions_that_share_a_row_are_counted_exactly(machine: Machine, program: Any) -> None:
    """Copies of a batch have the gradient of one copy to the last bit, where probabilities are near 1 too."""
    alone = program(machine)
    kernel = next(kernel for kernel in alone.kernels if kernel.vocab == 27)
    once = make_batch(kernel, 9, 9, spread=0.5)
    once.logits[np.arange(9), once.target] += 12
    calls = []
    for copies in (1, 3, 300, 4099):
        many = Batch(kernel, once.logits, np.tile(once.row, copies), np.tile(once.target, copies))
        calls.append(Call(alone, many, (0, 9), (0, 9 * copies)))
    (_, expected), *results = run(calls)
    for _, result in results:
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("machine", MACHINES)
def test_logits_may_be_of_any_size(machine: Machine, program: Any) -> None:
    """Columns past the vocabulary, whose logits are 0, must not be the largest."""
    alone = program(machine)
    calls = []
    for kernel in alone.kernels:
        batch = make_batch(kernel, 6, 12, spread=1e30)
        batch.logits[:, : kernel.vocab] = -np.abs(batch.logits[:, : kernel.vocab]) - np.float32(1e33)
        calls.append(Call(alone, batch, (0, 6), (0, 12)))
    for call, (loss, result) in zip(calls, run(calls), strict=True):
        kernel, (expected_loss, gradient) = call.batch.kernel, call.batch.expected()
        assert loss == pytest.approx(expected_loss, rel=1e-6, abs=1e30), kernel.name
        np.testing.assert_allclose(result[:, : kernel.vocab], gradient, rtol=0, atol=3e-7, err_msg=kernel.name)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_logit_that_is_no_number_is_passed_on(machine: Machine, program: Any) -> None:
    alone = program(machine)
    calls = []
    for kernel in alone.kernels:
        batch = make_batch(kernel, 6, 12)
        batch.logits[2] = np.nan  # a row of a product with a NaN, past the vocabulary too
        calls.append(Call(alone, batch, (0, 6), (0, 12)))
    for call, (loss, result) in zip(calls, run(calls), strict=True):
        kernel = call.batch.kernel
        assert np.isnan(loss) and np.isnan(result[2, : kernel.vocab]).all(), kernel.name
        assert np.isfinite(np.delete(result, 2, 0)).all()


@pytest.mark.parametrize("machine", parameters([*NATIVE, ARM[0]]))
def test_copies_of_a_document_train_as_one_does(machine: Machine, open_session: Callable[..., Session]) -> None:
    trained = []
    for documents in (["emma"], ["emma"] * 300):
        session = open_session(machine, ModelConfig(), documents, LETTERS, batch=len(documents), random=False)
        session.train(np.full(60, 0.01, np.float32))
        trained.append({name: np.array(weights) for name, weights in session.parameters.items()})
    for name, weights in trained[0].items():
        assert np.array_equal(trained[1][name], weights), name


def test_gradient_of_a_large_batch_is_as_exact_as_its_sums(open_session: Callable[..., Session]) -> None:
    documents = load_documents()[:4096]
    config = ModelConfig()
    session = open_session(Machine("scalar"), config, documents, LETTERS, spread=3.0, batch=4096, random=False)
    weights = {name: np.array(value, np.float64) for name, value in session.parameters.items()}
    tokens = [[LETTERS.index(letter) for letter in document] for document in documents]
    rows = batch_rows(tokens, len(LETTERS), config.block_size)
    loss, gradients = Oracle(*build_graph(config)).loss_and_gradients(rows, weights)
    assert session.gradient(np.arange(4096, dtype=np.int32)) == pytest.approx(loss, rel=1e-7)
    error = session.gradients["lm_head"] - gradients["lm_head"]  # the gradient nearest to the loss
    assert np.linalg.norm(error) < 3e-7 * np.linalg.norm(gradients["lm_head"])
