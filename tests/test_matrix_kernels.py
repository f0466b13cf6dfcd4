"""The matrix kernels alone against NumPy: products and weight gradients of odd shapes, on every target.

Padding of rows is NaN where a kernel may not use it, and what a kernel may not write is 7.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kernel_alone import Alone, target_of
from machines import ARM, NATIVE, Machine, parameters

from eegen.emit.source import environment
from eegen.language.graph import OPS
from eegen.language.optimizers import OPTIMIZERS, How
from eegen.plan.kernels.matrix import MOST_TRANSPOSED, Outer, Product, block
from eegen.plan.kernels.rows import ACCUMULATOR, OPERAND, Operand, Step
from eegen.targets import Target

COVERS = ("product", "product_neon", "product_sme2", "outer", "outer_neon", "outer_sme2")
MACHINES = [*NATIVE, *ARM]
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
        panel=panel, schedule=target.product_template, **how,
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
        plain = Outer(m, n, m + apart, n + apart, n + apart, 0, tile, partial=partial, schedule=target.outer_template)
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


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Machine, str], Alone]:
    made: dict[tuple[Machine, str], Alone] = {}

    def program(machine: Machine, kind: str) -> Alone:
        """`kind`: product, outer, or the optimizer fused into a gradient."""
        machine.need()
        if (machine, kind) not in made:
            target = target_of(machine)
            kernels: list[Any] = products_of(target) if kind == "product" else outers_of(target, kind.strip("outer"))
            named = [replace(k, name=f"{k.stem}_{number}") for number, k in enumerate(kernels)]
            before = prelude(target, kind) if kind in OPTIMIZERS else ""
            made[machine, kind] = Alone(machine, named, tmp_path_factory.mktemp("alone"), before)
        return made[machine, kind]

    return program


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
    for number, kernel in enumerate(alone.kernels):
        lo, hi = RANGES[number % len(RANGES)]
        check_product(alone, kernel, lo, hi)  # type: ignore[arg-type]


@pytest.mark.parametrize(("lo", "hi"), RANGES)
@pytest.mark.parametrize("machine", parameters(MACHINES))
def test_products_write_the_rows_asked_for(
    machine: Machine, lo: int, hi: int, programs: Callable[[Machine, str], Alone]
) -> None:
    alone = programs(machine, "product")
    for kernel in (alone.kernels[3], alone.kernels[-1]):
        check_product(alone, kernel, lo, hi)  # type: ignore[arg-type]


def check_product(alone: Alone, kernel: Product, lo: int, hi: int) -> None:
    rng = np.random.default_rng(kernel.k)
    k, n = kernel.k, kernel.n
    # Up to a tile's height of rows after the last may be read.
    a = random(rng, ROWS, k, kernel.lda, 0.0)
    b = random(rng, n, k, kernel.ldb, 0.0) if kernel.transposed else random(rng, k, n, kernel.ldb)
    c = np.full((ROWS, kernel.ldc), UNTOUCHED, np.float32)
    values: dict[str, Any] = {"a": a, "b": b, "c": c}
    if kernel.panel:
        values["panel"] = np.zeros(kernel.panel, np.float32)
    matrix = (b[:, :k].T if kernel.transposed else b[:, :n]).astype(np.float64)
    expected = a[:, :k].astype(np.float64) @ matrix
    scale = np.abs(a[:, :k]) @ np.abs(matrix)
    for each, name in zip(kernel.epilogue, kernel.operand_names, strict=True):
        operands = [expected]
        if each.operand:
            rows = 1 if each.operand.kind == "weights" else ROWS
            x = random(rng, rows, n, each.operand.ld)
            x[:, :n] = np.abs(x[:, :n]) if each.op == "relu2_grad" else np.tanh(x[:, :n])
            values[name] = x
            if each.operand.gather:
                values[each.operand.gather] = rng.permutation(ROWS).astype(np.int32)
                x = x[values[each.operand.gather]]
            operands.append(x[:, :n].astype(np.float64))
        expected = OPS[each.op].meaning(None, *operands)
        scale = scale * (1 + 2 * np.abs(expected)) + sum(np.abs(x) for x in operands[1:])
    alone.call(kernel, lo=lo, hi=hi, **values)
    close(c[lo:hi, :n], expected[lo:hi], scale[lo:hi])
    c[lo:hi, :n] = UNTOUCHED
    assert (c == UNTOUCHED).all(), f"{kernel.name} wrote outside its rows and columns"


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 33, 300])
@pytest.mark.parametrize("machine", parameters(MACHINES))
def test_gradients_match_numpy(machine: Machine, rows: int, programs: Callable[[Machine, str], Alone]) -> None:
    alone = programs(machine, "outer")
    rng = np.random.default_rng(rows)
    for number, kernel in enumerate(alone.kernels):
        assert isinstance(kernel, Outer)
        a, b = random(rng, rows, kernel.m, kernel.lda), random(rng, rows, kernel.n, kernel.ldb)
        g = np.full((kernel.m, kernel.ldg), UNTOUCHED, np.float32)
        g[:, : kernel.n] = rng.normal(size=(kernel.m, kernel.n))
        more = int(kernel.partial and number % 3 != 1)
        expected = a[:, : kernel.m].astype(np.float64).T @ b[:, : kernel.n] + more * g[:, : kernel.n].astype(np.float64)
        # Threads share the units of rows of G: the first part, then the rest.
        for lo, hi in ((0, kernel.tiles // 2), (kernel.tiles // 2, kernel.tiles)):
            numbers = {"more": more} if kernel.partial else {}
            alone.call(kernel, a=a, b=b, g=g, rows=rows, lo=lo, hi=hi, **numbers)
        close(g[:, : kernel.n], expected, np.sqrt(rows) * 10)
        assert (g[:, kernel.n :] == UNTOUCHED).all(), f"{kernel.name} wrote past the columns"


@pytest.mark.parametrize("rows", [1, 5, 150])
@pytest.mark.parametrize("optimizer", list(RATES))
@pytest.mark.parametrize("machine", parameters(MACHINES))
def test_gradients_update_their_weights(
    machine: Machine, optimizer: str, rows: int, programs: Callable[[Machine, str], Alone]
) -> None:
    alone = programs(machine, optimizer)
    rng = np.random.default_rng(rows)
    for kernel in alone.kernels:
        assert isinstance(kernel, Outer)
        m, n, ld = kernel.m, kernel.n, kernel.ldg
        a, b, w = (random(rng, r, c, s) for r, c, s in ((rows, m, kernel.lda), (rows, n, kernel.ldb), (m, n, ld)))
        moments = {f"{name}_at": np.abs(random(rng, m, n, ld)) for name in kernel.moments}
        gradient = a[:, :m].astype(np.float64).T @ b[:, :n]
        expected, *states = OPTIMIZERS[optimizer].rule(HOW, w[:, :n].astype(float), gradient, *(
            x[:, :n].astype(np.float64) for x in moments.values()
        ))  # fmt: skip
        values: dict[str, Any] = {"a": a, "b": b, "w": w, "h": np.array(RATES[optimizer](), np.float32), **moments}
        values["g"] = np.full((m, ld), UNTOUCHED, np.float32)
        if kernel.packed_ld:
            values["packed"] = np.full((n, kernel.packed_ld), UNTOUCHED, np.float32)
        numbers = {"more": 0} if kernel.partial else {}
        old = {name: values[name].copy() for name in ("w", *moments)}
        alone.call(kernel, rows=rows, lo=0, hi=kernel.tiles, **numbers, **(values | {"h": None}))
        close(values["g"][:, :n], gradient, np.sqrt(rows) * 10)
        for name, before in old.items():
            assert np.array_equal(values[name], before, equal_nan=True), f"{name} changed without constants"
        alone.call(kernel, rows=rows, lo=0, hi=kernel.tiles, **numbers, **values)
        close(w[:, :n], expected, np.sqrt(rows) * 10)
        for state, found in zip(states, moments.values(), strict=True):
            close(found[:, :n], state, rows * 10)
        assert np.isnan(w[:, n:]).all(), f"{kernel.name} wrote past the columns"
        if kernel.packed_ld:
            assert np.array_equal(values["packed"][:, :m], w[:, :n].T), "the packed copy is not the transposed weights"
            assert (values["packed"][:, m:] == UNTOUCHED).all(), "the packed copy's padding was written"
