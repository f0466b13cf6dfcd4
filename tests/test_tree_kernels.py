"""The kernels along the prefix tree, and those of the largest entries of a row, alone against NumPy on odd shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_alone import Alone, program_fixture, target_of
from machines import EACH_TARGET, Machine, parameters

from eegen.language.ops.context import context, context_grad
from eegen.language.ops.sparse import largest
from eegen.language.rows import Rows, batch_rows
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.kernels.sparse import TopLinear, TopOuter
from eegen.plan.kernels.tree import Context, ParentRows
from eegen.targets import Target

COVERS = ("parent_rows", "context", "top_linear", "top_outer")

BOUNDARY = 4
DOCUMENTS = [[0, 1, 2, 3], [0, 1, 1], [0, 1], [2], [2, 1, 0, 3, 3, 1], [3, 3], [1], []]
TREE = batch_rows(DOCUMENTS, BOUNDARY, 6)
CONTEXTS = [(1, 1), (1, 5), (2, 3), (3, 1), (3, 10), (5, 16), (8, 4)]  # tokens and numbers of each
PARENTS = [1, 3, 8, 17, 33]
TOP = [(1, 1, 1), (5, 2, 3), (9, 8, 20), (17, 3, 64), (33, 40, 5), (31, 31, 33), (50, 7, 150)]  # width of x, k, numbers
ROWS = 23
RANGES = [(0, ROWS), (0, 0), (4, 5), (5, 12)]
MACHINES = parameters(EACH_TARGET)


def padded(width: int, target: Target) -> int:
    unit = max(target.lanes, 4)
    return -(-width // unit) * unit


def kernels_of(target: Target) -> list[Kernel]:
    found: list[Kernel] = []
    for width in PARENTS:
        ld = padded(width, target)
        found.append(ParentRows(ld + 4, ld + 8, ld))
    for length, width in CONTEXTS:
        out_ld = padded(length * width, target)
        found += [Context(length, width, padded(width, target), out_ld, backward) for backward in (False, True)]
    for width, most, n in TOP:
        ld, columns = padded(width, target), padded(n, target)
        found.append(TopLinear(width, columns, target.lanes, ld, columns + 4, columns + 16, most))
        found.append(TopLinear(width, columns, target.lanes, columns + 4, ld, columns + 16, most, backward=True))
        found.append(TopOuter(columns, ld, columns + 4, columns + 16, most, columns // target.lanes))
    return [replace(kernel, name=f"{kernel.stem}_{number}") for number, kernel in enumerate(found)]


@program_fixture
def program(machine: Machine, folder: Path) -> Alone:
    return Alone(machine, kernels_of(target_of(machine)), folder, f"enum {{ BOUNDARY = {BOUNDARY} }};")


def of(alone: Alone, kind: type[Kernel], **fields: Any) -> list[Any]:
    """The kernels of a kind with these fields."""
    return [
        kernel
        for kernel in alone.kernels
        if isinstance(kernel, kind) and all(getattr(kernel, name) == value for name, value in fields.items())
    ]


@pytest.mark.parametrize("machine", MACHINES)
def test_parent_rows_are_those_of_the_parents(machine: Machine, program: Any) -> None:
    alone, rng = program(machine), np.random.default_rng(1)
    parent = np.array([rng.integers(-1, r) if r else -1 for r in range(ROWS)], np.int32)
    for kernel in of(alone, ParentRows):
        for lo, hi in RANGES:
            state = rng.normal(size=(ROWS, kernel.ld)).astype(np.float32)
            found = np.full((ROWS, kernel.out_ld), 7, np.float32)
            alone.call(kernel, state=state, parent=parent, previous=found, lo=lo, hi=hi)
            expected = np.full_like(found, 7)
            for r in range(lo, hi):
                expected[r, : kernel.width] = state[parent[r], : kernel.width] if parent[r] >= 0 else 0
            assert np.array_equal(found, expected), kernel.name


def tree_state(rows: Rows) -> dict[str, np.ndarray]:
    """What the context kernels read of the arena."""
    arrays = {"at_pair_token": rows.pair_token, "at_pair_of": rows.pair_of, "at_parent": rows.parent}
    return {name: array.astype(np.int32) for name, array in arrays.items()}


@pytest.mark.parametrize("machine", MACHINES)
def test_contexts_are_rows_of_the_table(machine: Machine, program: Any) -> None:
    alone, rng = program(machine), np.random.default_rng(2)
    for kernel in of(alone, Context, backward=False):
        for lo, hi in ((0, TREE.prefixes), (3, 3), (2, 9)):
            table = np.zeros((BOUNDARY + 1, kernel.ld), np.float32)
            table[:, : kernel.width] = rng.normal(size=(BOUNDARY + 1, kernel.width))
            found = np.full((TREE.prefixes, kernel.out_ld), 7, np.float32)
            alone.call(kernel, tree_state(TREE), table=table, out=found, lo=lo, hi=hi)
            expected = np.full_like(found, 7)
            expected[lo:hi] = 0
            real = kernel.length * kernel.width
            expected[lo:hi, :real] = context(TREE, table[:, : kernel.width], kernel.length)[lo:hi]
            assert np.array_equal(found, expected), kernel.name


@pytest.mark.parametrize("machine", MACHINES)
def test_gradients_of_contexts_are_added_to_the_table(machine: Machine, program: Any) -> None:
    alone, rng = program(machine), np.random.default_rng(3)
    for kernel in of(alone, Context, backward=True):
        for lo, hi in ((0, TREE.prefixes), (3, 3), (2, 9)):
            before = rng.normal(size=(BOUNDARY + 1, kernel.ld)).astype(np.float32)
            table, dy = before.copy(), rng.normal(size=(TREE.prefixes, kernel.out_ld)).astype(np.float32)
            alone.call(kernel, tree_state(TREE), table=table, out=dy.copy(), lo=lo, hi=hi)
            real = np.zeros((TREE.prefixes, kernel.length * kernel.width))
            real[lo:hi] = dy[lo:hi, : kernel.length * kernel.width]
            like: Any = before[:, : kernel.width]
            expected = before.astype(np.float64)
            expected[:, : kernel.width] += context_grad(TREE, real, like, kernel.length)
            np.testing.assert_allclose(table, expected, rtol=0, atol=2e-5, err_msg=kernel.name)
            assert np.array_equal(table[:, kernel.width :], before[:, kernel.width :])


def entries(width: int, ld: int, most: int) -> np.ndarray:
    """Rows to choose from: random ones, few positive ones, none, equal ones, tiny and huge ones."""
    rng = np.random.default_rng(width + most)
    x = rng.normal(size=(ROWS, width))
    x[1] = -np.abs(x[1])
    x[2] = np.maximum(x[2], 0)
    x[3] = 0
    x[4] = -0.0
    x[5] = 1.5
    x[6:9] = rng.integers(-2, 4, (3, width))
    x[9] = np.where(np.arange(width) < max(1, most // 2), np.abs(x[9]), -1)  # fewer than k
    x[10] = np.where(np.arange(width) >= width - 1, np.abs(x[10]), 0)  # the last alone
    x[11] = np.abs(x[11]) * 1e-39
    x[12] = 10.0 ** rng.uniform(-38, 38, width)
    x[13] = np.where(rng.random(width) < 0.5, 1 + 2.0**-23, 1)  # the last bit decides
    padded_x = np.full((ROWS, ld), 9, np.float32)  # what lies past the width must not be chosen
    padded_x[:, :width] = x
    return padded_x


def lists(kernel: Any, x: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(mask of the entries to choose, the same as the lists of the kernel with 7 where they have nothing)."""
    mask = largest(x[:, :width].astype(np.float64), kernel.most)
    chosen = np.full((ROWS, kernel.list_ld), 7, np.int32)
    for r, row in enumerate(mask):
        which = np.flatnonzero(row)
        chosen[r, : len(which) + 1] = [len(which), *which]
    return mask, chosen


@pytest.mark.parametrize("machine", MACHINES)
def test_products_with_the_largest_entries_equal_numpy(machine: Machine, program: Any) -> None:
    alone, rng = program(machine), np.random.default_rng(4)
    for kernel in of(alone, TopLinear, backward=False):
        x = entries(kernel.width, kernel.ld, kernel.most)
        mask, expected_lists = lists(kernel, x, kernel.width)
        w = rng.normal(size=(kernel.width, kernel.w_ld)).astype(np.float32)
        terms = np.where(mask, x[:, : kernel.width], 0).astype(np.float64)
        expected = terms @ w[:, : kernel.n]
        within = 1e-6 * (np.abs(terms) @ np.abs(w[:, : kernel.n])) + 1e-37
        for lo, hi in RANGES:
            y = np.full((ROWS, kernel.out_ld), 7, np.float32)
            chosen = np.full((ROWS, kernel.list_ld), 7, np.int32)
            alone.call(kernel, x=x, w=w, chosen=chosen, y=y, lo=lo, hi=hi)
            for r in range(ROWS):
                if not lo <= r < hi:
                    assert (y[r] == 7).all() and (chosen[r] == 7).all()
                    continue
                count = expected_lists[r, 0]
                assert chosen[r, : count + 1].tolist() == expected_lists[r, : count + 1].tolist(), (kernel.name, r)
                assert (np.abs(y[r, : kernel.n] - expected[r]) <= within[r]).all(), (kernel.name, r)
                assert (y[r, kernel.n :] == 7).all()


@pytest.mark.parametrize("machine", MACHINES)
def test_derivatives_of_the_largest_entries_equal_numpy(machine: Machine, program: Any) -> None:
    """dy · w for the entries that were chosen, zero for all others, the padding too."""
    alone, rng = program(machine), np.random.default_rng(5)
    for kernel in of(alone, TopLinear, backward=True):
        mask, chosen = lists(kernel, entries(kernel.width, kernel.out_ld, kernel.most), kernel.width)
        w = rng.normal(size=(kernel.width, kernel.w_ld)).astype(np.float32)
        dy = rng.normal(size=(ROWS, kernel.ld)).astype(np.float32)
        expected = np.zeros((ROWS, kernel.out_ld))
        exact = dy[:, : kernel.n].astype(np.float64) @ w[:, : kernel.n].T
        expected[:, : kernel.width] = np.where(mask, exact, 0)
        for lo, hi in RANGES:
            dx = np.full((ROWS, kernel.out_ld), 7, np.float32)
            alone.call(kernel, dy=dy, w=w, chosen=chosen, dx=dx, lo=lo, hi=hi)
            np.testing.assert_allclose(dx[lo:hi], expected[lo:hi], rtol=0, atol=5e-5, err_msg=kernel.name)
            assert (dx[:lo] == 7).all() and (dx[hi:] == 7).all()
            others = dx[lo:hi, : kernel.width][~mask[lo:hi]]
            assert (others == 0).all() and (dx[lo:hi, kernel.width :] == 0).all()


@pytest.mark.parametrize("machine", MACHINES)
def test_gradients_of_the_chosen_rows_equal_numpy(machine: Machine, program: Any) -> None:
    """All vectors of a row of G, a part of them, none; G holds something already."""
    alone, rng = program(machine), np.random.default_rng(6)
    widths = dict(zip((padded(width, alone.target) for width, *_ in TOP), (width for width, *_ in TOP)))
    for kernel in of(alone, TopOuter):
        width = widths[kernel.ld]
        x = entries(width, kernel.ld, kernel.most)
        x[12] = 1  # huge ones would hide the others
        mask, chosen = lists(kernel, x, width)
        terms = np.where(mask, x[:, :width], 0).astype(np.float64)
        dy = rng.normal(size=(ROWS, kernel.dy_ld)).astype(np.float32)
        for rows in (0, 1, ROWS):
            for lo, hi in ((0, kernel.vectors), (0, 0), (kernel.vectors // 2, kernel.vectors)):
                before = rng.normal(size=(width, kernel.ldg)).astype(np.float32)
                g, expected = before.copy(), before.astype(np.float64)
                done = np.s_[lo * alone.target.lanes : hi * alone.target.lanes]
                expected[:, done] += (terms[:rows].T @ dy[:rows])[:, done]
                alone.call(kernel, chosen=chosen, x=x, dy=dy, g=g, rows=rows, lo=lo, hi=hi)
                np.testing.assert_allclose(g, expected, rtol=0, atol=5e-5, err_msg=kernel.name)
                assert np.array_equal(g[:, : done.start], before[:, : done.start])
                assert np.array_equal(g[:, done.stop :], before[:, done.stop :])
