"""The attention kernels alone against NumPy: odd shapes, depths and rows, on every target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_alone import Alone, program_fixture, target_of
from machines import EACH_TARGET, Machine, parameters

from eegen.plan.kernels.attention import Attention, attention

COVERS = ("attention", "attention_grad")
SHAPES = [
    (1, 1), (3, 2), (5, 3), (1, 4), (2, 4), (3, 4), (8, 4), (3, 5), (6, 6), (1, 8), (2, 8), (3, 8), (7, 8), (2, 12),
    (1, 16), (3, 16), (8, 16), (2, 20), (1, 32), (5, 32), (1, 64), (3, 64), (2, 128), (1, 256),
]  # fmt: skip
# Rows of equally many quads stand together, more of them than are done at once, or one alone; the longest has 40 keys.
DEPTHS = [0, 0, 0, 1, 2, 3, 1, 2, 3, 0, 0, 4, 5, 7, 8, 9, 9, 10, 11, 8, 8, 12, 39, 37, 36, 38, 23]
RANGES = [(0, len(DEPTHS)), (3, 4), (5, 5), (6, 24)]
KEYS = 48  # entries of a list of ancestors
MACHINES = parameters(EACH_TARGET)


@dataclass(frozen=True)
class Case:
    """Rows of queries with their keys, in float32 as the kernels take them."""

    kernel: Attention
    qkv: np.ndarray  # [rows of keys][3][width]
    depth: np.ndarray
    ancestors: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.depth)

    def heads(self, x: np.ndarray) -> np.ndarray:
        """[..., width] -> [..., heads, head_dim] in float64."""
        k = self.kernel
        return x[..., : k.heads_end].reshape(*x.shape[:-1], k.heads, k.head_dim).astype(np.float64)

    def keys(self, r: int) -> np.ndarray:
        """The rows of the keys of row r, its own last."""
        return self.ancestors[r, : self.depth[r] + 1]

    def attend(self, r: int) -> tuple[np.ndarray, np.ndarray]:
        """(probabilities [heads][keys], result [heads][head_dim]) of row r."""
        rows = self.keys(r)
        q, k, v = self.heads(self.qkv[rows[-1], 0]), self.heads(self.qkv[rows, 1]), self.heads(self.qkv[rows, 2])
        scores = np.einsum("hd,jhd->hj", q, k) * self.kernel.scale
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return p, np.einsum("hj,jhd->hd", p, v)

    def gradients(self, d_out: np.ndarray) -> np.ndarray:
        """What all rows add to the rows of keys: [rows of keys][3][heads][head_dim]."""
        total = np.zeros((len(self.qkv), 3, self.kernel.heads, self.kernel.head_dim))
        for r in range(self.rows):
            rows, dy = self.keys(r), self.heads(d_out[r])
            q, k, v = self.heads(self.qkv[rows[-1], 0]), self.heads(self.qkv[rows, 1]), self.heads(self.qkv[rows, 2])
            p, _ = self.attend(r)
            e = np.einsum("hd,jhd->hj", dy, v)
            slope = p * (e - (p * e).sum(1, keepdims=True)) * self.kernel.scale
            total[rows[-1], 0] += np.einsum("hj,jhd->hd", slope, k)
            total[rows, 1] += np.einsum("hj,hd->jhd", slope, q)
            total[rows, 2] += np.einsum("hj,hd->jhd", p, dy)
        return total

    def slots(self, count: int) -> np.ndarray:
        """[heads][keys]: where the probabilities of a row are, in quads of keys or head by head."""
        h, j = np.arange(self.kernel.heads)[:, None], np.arange(count)[None, :]
        return (j // 4 * self.kernel.prob_heads + h) * 4 + j % 4 if self.kernel.quads else h * KEYS + j

    def kept(self) -> np.ndarray:
        """The probabilities of all rows as the kernels keep them."""
        kept = np.full((self.rows, KEYS * self.kernel.prob_heads), np.nan, np.float32)
        for r in range(self.rows):
            keys = len(self.keys(r))
            kept[r, : -(-keys // 4) * 4 * self.kernel.prob_heads] = 0
            kept[r, self.slots(keys)] = self.attend(r)[0]
        return kept


def kernels_of(machine: Machine, backward: bool) -> list[Attention]:
    target = target_of(machine)
    unit = max(target.lanes, 4)
    return [
        attention(heads, head_dim, -(-heads * head_dim // unit) * unit, target, backward) for heads, head_dim in SHAPES
    ]


def make_case(kernel: Attention, domain: str, depths: list[int], spread: float = 1.0) -> Case:
    """Random rows: `pair`, where rows of queries share rows of keys; `prefix`, where each has its own."""
    rng = np.random.default_rng(len(depths) + kernel.width)
    count = 45 if domain == "pair" else max(len(depths), 40)
    qkv = np.zeros((count, 3, kernel.width), np.float32)
    qkv[:, :, : kernel.heads_end] = rng.normal(size=(count, 3, kernel.heads_end))
    qkv[:, :2] *= np.float32(spread)
    ancestors = np.zeros((len(depths), KEYS), np.int32)
    for r, depth in enumerate(depths):
        rows = rng.permutation(count)[: depth + 1]
        if domain == "prefix":
            rows = np.append(np.setdiff1d(rows, r)[:depth], r)
        ancestors[r, : depth + 1] = rows
        ancestors[r, depth + 1 : (depth // 4 + 1) * 4] = rows[-1]
    return Case(kernel, qkv, np.array(depths, np.int32), ancestors)


@program_fixture
def program(machine: Machine, backward: bool, folder: Path) -> Alone:
    """A program of all shapes."""
    return Alone(machine, kernels_of(machine, backward), folder)


@dataclass
class Forward:
    """A call of the forward kernel, queued; rows that are not asked for must stay as they are."""

    alone: Alone
    case: Case
    lo: int
    hi: int

    def __post_init__(self) -> None:
        kernel = self.case.kernel
        self.out = np.full((self.case.rows, kernel.width), 7, np.float32)
        self.probabilities = np.full((self.case.rows, KEYS * kernel.prob_heads), 7, np.float32)
        self.alone.queue(
            kernel, qkv=self.case.qkv, ancestors=self.case.ancestors, depth=self.case.depth, keys_ld=KEYS,
            probabilities=self.probabilities, out=self.out, lo=self.lo, hi=self.hi,
        )  # fmt: skip

    def check(self) -> None:
        case, out, probabilities = self.case, self.out, self.probabilities
        kernel = case.kernel
        for r in range(case.rows):
            if not self.lo <= r < self.hi:
                assert (out[r] == 7).all() and (probabilities[r] == 7).all()
                continue
            p, y = case.attend(r)
            about = f"{kernel.stem}, row {r} with {p.shape[1]} keys"
            np.testing.assert_allclose(case.heads(out[r]), y, rtol=0, atol=3e-6, err_msg=about)
            np.testing.assert_allclose(probabilities[r, case.slots(p.shape[1])], p, rtol=0, atol=3e-6, err_msg=about)
            assert (out[r, kernel.heads_end :] == 0).all()
            if kernel.quads:
                missing = case.slots(-(-p.shape[1] // 4) * 4)[:, p.shape[1] :]
                assert (probabilities[r, missing] == 0).all(), about


@pytest.mark.parametrize("domain", ["pair", "prefix"])
@pytest.mark.parametrize("machine", MACHINES)
def test_attention_equals_numpy(machine: Machine, domain: str, program: Any) -> None:
    alone = program(machine, False)
    calls = []
    for kernel in alone.kernels:
        case = make_case(kernel, domain, DEPTHS)
        calls += [Forward(alone, case, lo, hi) for lo, hi in RANGES]
    alone.run()
    for call in calls:
        call.check()


@pytest.mark.parametrize("spread", [1e4, 1e10, 1e15])
@pytest.mark.parametrize("machine", MACHINES)
def test_scores_may_be_of_any_size(machine: Machine, spread: float, program: Any) -> None:
    """Scores up to 1e30: what is not there must not take part in the maximum, not even by its rounding."""
    alone = program(machine, False)
    kernels = [kernel for kernel in alone.kernels if kernel.head_dim >= 4]  # of fewer products many are nearly equal
    calls = [Forward(alone, make_case(kernel, "pair", DEPTHS, spread), 0, len(DEPTHS)) for kernel in kernels]
    alone.run()
    for call in calls:
        call.check()


@pytest.mark.parametrize("machine", MACHINES)
def test_a_score_that_is_no_number_is_passed_on(machine: Machine, program: Any) -> None:
    alone = program(machine, False)
    calls = []
    for kernel in alone.kernels:
        for before in (0, 1):  # of the row's own key, and of the one before it
            case = make_case(kernel, "pair", [3, 5, 6, 12])
            for r in range(case.rows):
                case.qkv[case.ancestors[r, case.depth[r] - before], 1] = np.nan
            calls.append(Forward(alone, case, 0, case.rows))
    alone.run()
    for call in calls:
        assert np.isnan(call.out[:, : call.case.kernel.heads_end]).all(), call.case.kernel.stem


@pytest.mark.parametrize("domain", ["pair", "prefix"])
@pytest.mark.parametrize("machine", MACHINES)
def test_derivative_equals_numpy(machine: Machine, domain: str, program: Any) -> None:
    alone = program(machine, True)
    calls = []
    for kernel in alone.kernels:
        case = make_case(kernel, domain, DEPTHS)
        rng = np.random.default_rng(kernel.width)
        d_out = np.zeros((case.rows, kernel.width), np.float32)
        d_out[:, : kernel.heads_end] = rng.normal(size=(case.rows, kernel.heads_end))
        before = rng.normal(size=case.qkv.shape).astype(np.float32)
        probabilities = case.kept()
        for lo, hi in RANGES:
            d_qkv = before.copy()
            alone.queue(
                kernel, qkv=case.qkv, ancestors=case.ancestors, depth=case.depth, keys_ld=KEYS,
                probabilities=probabilities, d_out=d_out, d_qkv=d_qkv, lo=lo, hi=hi,
            )  # fmt: skip
            part = Case(kernel, case.qkv, case.depth[lo:hi], case.ancestors[lo:hi])
            expected = case.heads(before) + part.gradients(d_out[lo:hi])
            calls.append((case, d_qkv, expected, before))
    alone.run()
    for case, d_qkv, expected, before in calls:
        within = 2e-6 * np.abs(expected).max()
        np.testing.assert_allclose(case.heads(d_qkv), expected, rtol=0, atol=within, err_msg=case.kernel.stem)
        assert (d_qkv[..., case.kernel.heads_end :] == before[..., case.kernel.heads_end :]).all()
