"""The matrix kernels alone against NumPy: products and weight gradients of odd shapes, on every target.

Padding of rows is NaN where a kernel may not use it, and what a kernel may not write is 7.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kernel_alone import Alone, program_fixture, target_of
from machines import ARM, NATIVE, RISCV, Machine, parameters

from eegen.emit.source import environment
from eegen.language.graph import OPS
from eegen.language.optimizers import OPTIMIZERS, How
from eegen.plan.kernels.matrix import MOST_TRANSPOSED, Outer, Product, block
from eegen.plan.kernels.rows import ACCUMULATOR, OPERAND, Operand, Step
from eegen.targets import Target

COVERS = ("product", "product_neon", "product_sme2", "outer", "outer_neon", "outer_sme2")
MACHINES = [*NATIVE, *ARM, *RISCV[:1]]
UNTOUCHED = 7
RANGES = [(0, 0), (0, 1), (3, 3), (2, 4), (0, 5), (1, 8), (0, 13), (5, 36)]  # of rows
ROWS = 36
WIDTHS = (1, 2, 3, 5, 7, 13)  # vectors of 4 lanes at least
DEPTHS = (1, 4, 7, 12, 28, 33, 64, 100)  # inner sizes
BLOCKED = 144  # an inner size that a transposing product takes in blocks
HOW = How(step=3, lr=0.05)
RATES = {
    "adam": lambda: (
        1 - HOW.beta1, 1 - HOW.beta2,
        HOW.lr * np.sqrt(1 - HOW.beta2**HOW.step) / (1 - HOW.beta1**HOW.step),
        HOW.eps * np.sqrt(1 - HOW.beta2**HOW.step),
    ),
    "sgd": lambda: (HOW.momentum, HOW.lr),
}  # fmt: skip
# Ops that may follow a product, each by itself and some in a row.
EPILOGUES: tuple[tuple[str, ...], ...] = (
    ("relu",), ("relu2",), ("tanh",), ("sigmoid",), ("add",), ("mul",), ("bias",), ("gain",), ("relu_grad",),
    ("relu2_grad",), ("tanh_grad",), ("sigmoid_grad",), ("sub",), ("bias", "tanh"), ("add", "mul", "relu"),
)  # fmt: skip


def up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


# --- kernels


def step(number: int, op: str, gather: bool = False) -> Step:
    record = OPS[op]
    assert record.expression is not None
    operand = None
    if op in ("bias", "gain"):
        operand = Operand("weights", 0, name=f"{op}{number}")
    elif re.search(r"\bb\b", record.expression.value):
        operand = Operand("rows", 0, "index" if gather else "", f"{op}{number}")
    sources = (number - 1 if number else ACCUMULATOR, *([OPERAND] if operand else []))
    return Step(op, sources, operand, record.expression, record.flops)


def product_of(
    target: Target, k: int, vectors: int, ops: tuple[str, ...] = (), *, gather: bool = False, apart: int = 0, **how: Any
) -> Product:
    """A product as the plan makes it; `apart` pads every row."""
    n = vectors * max(target.lanes, 4)
    k = up(k, target.inner_multiple)
    transposed = how.get("transposed", False)
    tile = how.pop("tile", None) or target.tile(n // target.lanes, k)
    steps = tuple(step(i, op, gather) for i, op in enumerate(ops))
    steps = tuple(replace(s, operand=s.operand and replace(s.operand, ld=n + apart)) for s in steps)
    inner = up(k, max(target.lanes, 4))
    panel = tile.vectors * target.lanes * up(block(k, True), 16) if transposed else target.panel_floats(k, n)
    return Product(
        k, n, inner + apart, (inner if transposed else n) + apart, n + apart, tile, steps, target.product_words,
        panel=panel, template=target.product_template, **how,
    )  # fmt: skip


def products_of(target: Target) -> list[Product]:
    """Every size, epilogue and way of reading that this target has, each once."""
    found = [product_of(target, k, 3) for k in DEPTHS]
    found += [product_of(target, 28, vectors, apart=4 * (vectors % 3)) for vectors in WIDTHS]
    found += [product_of(target, 12, 3, ops) for ops in EPILOGUES]
    found += [product_of(target, 12, 2, ("add",), gather=True, apart=8)]
    found += [product_of(target, 64, 4, apart=240)]  # rows too far apart to share a base pointer
    found += [product_of(target, k, vectors, streams=True) for k, vectors in ((64, 4), (36, 7))]
    wide = target.tile_of(7, (3, 5, 4)) if target.lane_operand else None
    found += [product_of(target, 20, 7, tile=wide)] if wide else []
    if target.transposes_in_product:
        found += [product_of(target, k, 3, ("add",), transposed=True) for k in (1, 16, 27, 64, BLOCKED)]
        found += [product_of(target, k, 5, transposed=True, streams=True) for k in (64, BLOCKED)]
    if target.pairs_scalars:
        sizes = range(2 * target.lanes, MOST_TRANSPOSED + 1, 2)
        found += [product_of(target, k, 1, ("relu",), transposed=True, paired=True) for k in (*sizes[:3], sizes[-1])]
    return list(dict.fromkeys(found))


def outers_of(target: Target, optimizer: str = "") -> list[Outer]:
    """Weight gradients of odd sizes: alone, or with an optimizer in them."""
    sizes = [(4, 1), (8, 2), (12, 3), (16, 4), (20, 5), (28, 3), (36, 7), (60, 13)]
    unit = max(target.lanes, 4)
    found = []
    for number, (m, vectors) in enumerate(sizes):
        n = vectors * unit
        apart = 4 * (number % 3)
        tile = target.outer_tile(m, n // target.lanes, multiple=4)
        partial = target.exchanges_sums or number % 2 == 0
        plain = Outer(m, n, m + apart, n + apart, n + apart, 0, tile, partial=partial, template=target.outer_template)
        if not optimizer:
            found.append(plain)
            continue
        moments = OPTIMIZERS[optimizer].slots
        packed = m + apart if number % 2 or not target.transposes_in_product else 0
        fused = replace(plain, fused=True, partial=target.exchanges_sums, moments=moments, packed_ld=packed)
        found += [fused, replace(fused, streams=True)]
    return found


# --- programs, one for each machine and kind of kernel


def prelude(target: Target, optimizer: str) -> str:
    """The optimizer on a vector, as the program of a model has it."""
    plan = SimpleNamespace(optimizer=OPTIMIZERS[optimizer], moments=OPTIMIZERS[optimizer].slots)
    return environment().get_template(f"optimizers/{optimizer}.c.j2").render(plan=plan, target=target)


@program_fixture
def programs(machine: Machine, kind: str, folder: Path) -> Alone:
    """`kind`: product, outer, or the optimizer fused into a gradient."""
    target = target_of(machine)
    kernels: list[Any] = products_of(target) if kind == "product" else outers_of(target, kind.strip("outer"))
    named = [replace(k, name=f"{k.stem}_{number}") for number, k in enumerate(kernels)]
    return Alone(machine, named, folder, prelude(target, kind) if kind in OPTIMIZERS else "")


def random(rng: np.random.Generator, rows: int, columns: int, ld: int, padding: float = np.nan) -> np.ndarray:
    """[rows][ld], the columns past `columns` not to be used."""
    found = np.full((rows, ld), padding, np.float32)
    found[:, :columns] = rng.normal(size=(rows, columns))
    return found


def close(found: np.ndarray, expected: np.ndarray, scale: np.ndarray | float) -> None:
    error = np.abs(found - expected)
    assert np.isfinite(found).all() and (error <= 4e-6 * (1 + scale)).all(), f"off by {np.nanmax(error)}"


# --- tests


@pytest.mark.parametrize("machine", parameters(MACHINES))
def test_products_match_numpy(machine: Machine, programs: Callable[[Machine, str], Alone]) -> None:
    alone = programs(machine, "product")
    cases = [(kernel, RANGES[number % len(RANGES)]) for number, kernel in enumerate(alone.kernels)]
    cases += [(kernel, rows) for kernel in (alone.kernels[3], alone.kernels[-1]) for rows in RANGES]
    made = [ProductCall(alone, kernel, *rows) for kernel, rows in cases]  # type: ignore[arg-type]
    alone.run()
    for one in made:
        one.check()


class ProductCall:
    """A call of a product on random rows, queued."""

    def __init__(self, alone: Alone, kernel: Product, lo: int, hi: int) -> None:
        rng = np.random.default_rng(kernel.k)
        k, n = kernel.k, kernel.n
        self.kernel, self.lo, self.hi = kernel, lo, hi
        # Up to a tile's height of rows after the last may be read, and padding in A where B has zeros.
        a = random(rng, ROWS, k, kernel.lda, 0.0)
        b = random(rng, n, k, kernel.ldb, 0.0) if kernel.transposed else random(rng, k, n, kernel.ldb)
        self.c = np.full((ROWS, kernel.ldc), UNTOUCHED, np.float32)
        values: dict[str, Any] = {"a": a, "b": b, "c": self.c}
        if kernel.panel:
            values["panel"] = np.zeros(kernel.panel, np.float32)
        matrix = (b[:, :k].T if kernel.transposed else b[:, :n]).astype(np.float64)
        self.expected = a[:, :k].astype(np.float64) @ matrix
        self.scale = np.abs(a[:, :k]) @ np.abs(matrix)
        for each, name in zip(kernel.epilogue, kernel.operand_names, strict=True):
            operands = [self.expected]
            if each.operand:
                rows = 1 if each.operand.kind == "weights" else ROWS
                x = random(rng, rows, n, each.operand.ld)
                x[:, :n] = np.abs(x[:, :n]) if each.op == "relu2_grad" else np.tanh(x[:, :n])
                values[name] = x
                if each.operand.gather:
                    values[each.operand.gather] = rng.permutation(ROWS).astype(np.int32)
                    x = x[values[each.operand.gather]]
                operands.append(x[:, :n].astype(np.float64))
            self.expected = OPS[each.op].meaning(None, *operands)
            self.scale = self.scale * (1 + 2 * np.abs(self.expected)) + sum(np.abs(x) for x in operands[1:])
        alone.queue(kernel, lo=lo, hi=hi, **values)

    def check(self) -> None:
        rows, columns = slice(self.lo, self.hi), slice(0, self.kernel.n)
        close(self.c[rows, columns], self.expected[rows], self.scale[rows])
        self.c[rows, columns] = UNTOUCHED
        assert (self.c == UNTOUCHED).all(), f"{self.kernel.name} wrote outside its rows and columns"


@pytest.mark.parametrize("machine", parameters(MACHINES))
def test_gradients_match_numpy(machine: Machine, programs: Callable[[Machine, str], Alone]) -> None:
    alone = programs(machine, "outer")
    made = [
        GradientCall(alone, kernel, rows, more)  # type: ignore[arg-type]
        for kernel in alone.kernels
        for rows in (1, 2, 3, 7, 33, 300)
        for more in ((0, 1) if kernel.partial else (0,))  # type: ignore[attr-defined]
    ]
    alone.run()
    for one in made:
        one.check()


class GradientCall:
    """Calls of a weight gradient on random rows, queued: the first units of the rows of G, then the rest."""

    def __init__(self, alone: Alone, kernel: Outer, rows: int, more: int) -> None:
        rng = np.random.default_rng(rows)
        m, n = kernel.m, kernel.n
        a, b = random(rng, rows, m, kernel.lda), random(rng, rows, n, kernel.ldb)
        self.kernel = kernel
        self.g = np.full((m, kernel.ldg), UNTOUCHED, np.float32)
        self.g[:, :n] = rng.normal(size=(m, n))
        self.expected = a[:, :m].astype(np.float64).T @ b[:, :n] + more * self.g[:, :n].astype(np.float64)
        self.scale = np.abs(a[:, :m]).T @ np.abs(b[:, :n]) + more
        numbers = {"more": more} if kernel.partial else {}
        half = kernel.tiles // 2
        for lo, hi in ((0, half), (half, kernel.tiles)):
            alone.queue(kernel, a=a, b=b, g=self.g, rows=rows, lo=lo, hi=hi, **numbers)

    def check(self) -> None:
        close(self.g[:, : self.kernel.n], self.expected, self.scale)
        assert (self.g[:, self.kernel.n :] == UNTOUCHED).all(), f"{self.kernel.name} wrote past the columns"


@pytest.mark.parametrize("optimizer", list(RATES))
@pytest.mark.parametrize("machine", parameters(MACHINES))
def test_gradients_update_their_weights(
    machine: Machine, optimizer: str, programs: Callable[[Machine, str], Alone]
) -> None:
    alone = programs(machine, optimizer)
    made = [
        UpdateCall(alone, kernel, optimizer, rows, fused)  # type: ignore[arg-type]
        for kernel in alone.kernels
        for rows in (1, 5, 150)
        for fused in (False, True)
    ]
    alone.run()
    for one in made:
        one.check()


class UpdateCall:
    """A call of a gradient with an optimizer in it, queued; not `fused`: it gets no constants and writes G."""

    def __init__(self, alone: Alone, kernel: Outer, optimizer: str, rows: int, fused: bool) -> None:
        rng = np.random.default_rng(rows)
        m, n, ld = kernel.m, kernel.n, kernel.ldg
        self.kernel = kernel
        a, b, self.w = (random(rng, r, c, s) for r, c, s in ((rows, m, kernel.lda), (rows, n, kernel.ldb), (m, n, ld)))
        self.moments = [np.abs(random(rng, m, n, ld)) for _ in kernel.moments]
        self.g = np.full((m, ld), UNTOUCHED, np.float32)
        self.packed = np.full((n, kernel.packed_ld), UNTOUCHED, np.float32)
        self.gradient = a[:, :m].astype(np.float64).T @ b[:, :n]
        self.scale = np.abs(a[:, :m]).T @ np.abs(b[:, :n])
        self.rows, self.fused = rows, fused
        self.states = [x[:, :n].astype(np.float64) for x in (self.w, *self.moments)]
        if fused:
            self.states = list(OPTIMIZERS[optimizer].rule(HOW, self.states[0], self.gradient, *self.states[1:]))
        values: dict[str, Any] = {"a": a, "b": b, "g": self.g, "w": self.w}
        values |= {f"{name}_at": x for name, x in zip(kernel.moments, self.moments, strict=True)}
        values["h"] = np.array(RATES[optimizer](), np.float32) if fused else None
        values |= {"packed": self.packed} if kernel.packed_ld else {}
        values |= {"more": 0} if kernel.partial else {}
        alone.queue(kernel, rows=rows, lo=0, hi=kernel.tiles, **values)

    def check(self) -> None:
        m, n = self.kernel.m, self.kernel.n
        if self.fused and self.rows < 100:  # more rows leave partial sums in G
            assert (self.g == UNTOUCHED).all(), f"{self.kernel.name} wrote a gradient that it used up"
        if not self.fused:
            close(self.g[:, :n], self.gradient, self.scale)
        for found, expected in zip((self.w, *self.moments), self.states, strict=True):
            close(found[:, :n], expected, (1 + self.scale**2) * self.fused)
            assert np.isnan(found[:, n:]).all(), f"{self.kernel.name} wrote past the columns"
        if self.fused and self.kernel.packed_ld:
            assert np.array_equal(self.packed[:, :m], self.w[:, :n].T), "the packed copy is not the transposed weights"
            self.packed[:, :m] = UNTOUCHED
        assert (self.packed == UNTOUCHED).all(), f"{self.kernel.name} wrote outside the packed copy"
