"""Ops that follow the prefix tree, their kernels and calls: contexts along parents, recurrences level by level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eegen.language.formats import I32
from eegen.language.graph import Value
from eegen.plan.call import Arg
from eegen.plan.kernels.kernel import Access, Kernel, Param, Work, index
from eegen.plan.kernels.matrix import Product
from eegen.plan.kernels.rows import Operand, Step

if TYPE_CHECKING:
    from eegen.plan.planner import Planner


@dataclass(frozen=True)
class Parents(Kernel):
    """Rows of a table for the last `length` tokens of each prefix, side by side, or the sum back into the table."""

    length: int
    width: int  # of the table
    ld: int  # of the table
    out: int  # floats of a row of the result
    backward: bool

    template = "kernels/parents.c.j2"

    @property
    def stem(self) -> str:
        return f"context{'_gradient' if self.backward else ''}_{self.length}x{self.width}"

    @property
    def params(self) -> tuple[Param, ...]:
        table, out = _ACCESS[self.backward]
        return (
            Param("s", "state"),
            Param("table", "weights", table, self.length * self.ld),
            Param("out", "rows", out, self.out),
            Param("", "range"),
        )

    @property
    def flops(self) -> Work:
        return Work(self.length * self.width if self.backward else 0)

    @property
    def shape(self) -> str:
        return f"[rows][{self.length}][{self.width}]"

    @property
    def about(self) -> str:
        if self.backward:
            return f"Each row's gradient added to the table's rows of its last {self.length} tokens: {self.shape}."
        return f"The table's rows of the last {self.length} tokens of each prefix, the oldest first: {self.shape}."


@dataclass(frozen=True)
class Sparse(Kernel):
    """What a state gives its children through its `most` largest entries, or the gradient's way back."""

    width: int
    ld: int
    most: int
    backward: bool

    template = "kernels/sparse.c.j2"

    @property
    def stem(self) -> str:
        return f"sparse{'_backward' if self.backward else ''}_{self.most}_of_{self.width}"

    @property
    def params(self) -> tuple[Param, ...]:
        x, y = ("sums", "dz") if self.backward else ("h", "carry")
        more = (Param("dy", "rows", "read", self.ld), Param("h", "rows", "read", self.ld)) if self.backward else ()
        return (
            Param(x, "rows", "read", self.ld),
            Param("w", "weights", "read", self.most * self.ld),
            Param(y, "rows", "write", self.ld),
            Param("", "range"),
            *more,
            Param("list", "rows", "read" if self.backward else "write", self.room, I32),
        )

    @property
    def flops(self) -> Work:
        return Work(2 * self.most * self.ld)

    @property
    def shape(self) -> str:
        return f"[rows][{self.most} of {self.width}] x [{self.width}][{self.width}]"

    @property
    def room(self) -> int:
        """Numbers kept of each row."""
        return room(self.most)

    @property
    def about(self) -> str:
        way = "Back through the chosen rows" if self.backward else "The largest entries times their rows"
        return f"{way} of a matrix: {self.shape}. {self.flops.row} FLOPs a row."


@dataclass(frozen=True)
class SparseOuter(Kernel):
    """G[i] = sum over rows that chose i of state[i] · S[row]: the gradient of the rows of the matrix."""

    ld: int
    most: int
    vectors: int

    template = "kernels/sparse_outer.c.j2"

    @property
    def stem(self) -> str:
        return f"sparse_outer_{self.most}x{self.ld}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("list", "rows", "read", self.room),
            Param("h", "rows", "read", self.ld),
            Param("sums", "rows", "read", self.ld),
            Param("g", "gradient", "both", self.most * self.ld),
            Param("rows", "count"),
            Param("", "range"),
        )

    @property
    def flops(self) -> Work:
        return Work(2 * self.most * self.ld)

    @property
    def shape(self) -> str:
        return f"[{self.most} chosen][rows] x [rows][{self.ld}]"

    @property
    def room(self) -> int:
        return room(self.most)

    @property
    def about(self) -> str:
        return f"The gradient of the rows of a matrix that were chosen: {self.shape}. {self.flops.row} FLOPs a row."


@dataclass(frozen=True)
class Recurrence(Kernel):
    """h = relu(carry of the parent + u), level by level, or its derivative; `each` is the kernel run on each level."""

    ld: int
    each: Kernel
    u: Operand | None = None
    backward: bool = False

    template = "kernels/recurrence.c.j2"

    @property
    def stem(self) -> str:
        return f"recurrence{'_back' if self.backward else ''}_{self.ld}"

    @property
    def parts(self) -> tuple[Kernel, ...]:
        return (self.each,)

    @property
    def scratch(self) -> int:
        return self.each.scratch

    @property
    def params(self) -> tuple[Param, ...]:
        rows = [Param(name, "rows", "read", self.ld) for name in ("dy", "h", "sums", "dz")]
        if not self.backward:
            rows = [Param("u", "rows", "read", self.u.ld if self.u else 0)]
            rows += [index(self.u.gather)] if self.u and self.u.gather else []
            rows += [Param(name, "rows", "write", self.ld) for name in ("carry", "h")]
        else:
            rows[2:] = [Param(name, "rows", "write", self.ld) for name in ("sums", "dz")]
        return (
            Param("s", "state", "both"),
            Param("w", "weights", "read", 0),
            *rows,
            *([Param("list", "rows", "read" if self.backward else "write", 0)] if self.chosen else []),
            Param("thread", "thread"),
            Param("levels", "levels"),
            *([Param("scratch", "scratch", "write")] if self.scratch else []),
        )

    @property
    def chosen(self) -> bool:
        """Whether the rows keep which of their entries were carried."""
        return isinstance(self.each, Sparse)

    @property
    def flops(self) -> Work:
        return Work(self.each.flops.row + 2 * self.ld)

    @property
    def shape(self) -> str:
        return f"[rows][{self.ld}] by levels"

    @property
    def about(self) -> str:
        if self.backward:
            return f"From the last level to the first: the sum of a row's children, then {self.title_of_each} on it."
        return f"Level by level: h = relu(carry of the parent + u), then {self.title_of_each} makes the carry of h."

    @property
    def title_of_each(self) -> str:
        return str(getattr(self.each, "name", ""))


_ACCESS: dict[bool, tuple[Access, Access]] = {True: ("both", "read"), False: ("read", "write")}


def context(p: Planner, value: Value) -> None:
    (table,) = value.inputs
    out = p.buffer(value)
    args = [Arg("weight", p.storage[table].ident), out]
    p.call(parents(p, table, value.attrs["length"], p.ld(value), False), args, value.domain, [out.name])


def context_grad(p: Planner, value: Value) -> None:
    (dy,) = value.inputs
    table = p.gradient_of[value]
    sums = p.sum_of(table)
    kernel = parents(p, table, value.attrs["length"], p.ld(dy), True)
    p.call(kernel, [sums, p.read(dy)], dy.domain, ["gradient " + sums.name])


def parents(p: Planner, table: Value, length: int, out: int, backward: bool) -> Parents:
    return Parents(length, table.shape[1], p.storage[table].ld, out, backward)


def recurrence(p: Planner, value: Value) -> None:
    """`each` multiplies the states of a level; its result is what the next level adds to."""
    m = value.inputs[1]
    each = p.kernel(product(p, value, m, True))
    forward(p, value, each, copy_of(p, m, True), [])


def recurrence_grad(p: Planner, value: Value) -> None:
    m = value.inputs[2]
    rows = Operand("rows", p.ld(value))
    each = p.kernel(product(p, value, m, False, Step("add", (-1,), rows), Step("relu_grad", (0,), rows)))
    backward(p, value, each, copy_of(p, m, False), [])


def copy_of(p: Planner, m: Value, forward: bool) -> Arg:
    """The copy of a matrix that a product with it reads: [in][out] forward, [out][in] backward."""
    return Arg("weight" if p.storage[m].flipped == forward else "packed", p.storage[m].ident)


def product(p: Planner, value: Value, m: Value, forward: bool, *epilogue: Step) -> Product:
    target, ld, parameter = p.plan.target, p.ld(value), p.storage[m]
    k = ld if target.lane_broadcast else value.width
    return Product(
        k,
        ld,
        ld,
        parameter.ld if parameter.flipped == forward else parameter.packed_ld,
        ld,
        p.plan.tile(ld // p.lanes, k),
        epilogue,
        "z_" if target.svl_bits else "v_",
        panel=target.panel_floats(k, ld),
        schedule=target.product_template,
    )


def sparse_recurrence(p: Planner, value: Value) -> None:
    m = value.inputs[1]
    each = p.kernel(sparse(p, value, False))
    forward(p, value, each, Arg("weight", p.storage[m].ident), [chosen(p, value)])


def sparse_recurrence_grad(p: Planner, value: Value) -> None:
    _, h, m = value.inputs
    each = p.kernel(sparse(p, value, True))
    backward(p, value, each, Arg("weight", p.storage[m].ident), [chosen(p, h)])


def sparse(p: Planner, value: Value, backward: bool) -> Sparse:
    return Sparse(value.width, p.ld(value), value.attrs["top_k"], backward)


def chosen(p: Planner, h: Value) -> Arg:
    """The list of the entries that each row of h carried."""
    return p.extra(f"chosen_{p.buffer(h).name}", h.domain, room(h.attrs["top_k"]))


def room(most: int) -> int:
    """Numbers in the list of a row: how many entries were chosen, which, and one that the search writes past them."""
    return most + 2


def forward(p: Planner, value: Value, each: Kernel, weight: Arg, lists: list[Arg]) -> None:
    u, operand = p.operand(value.inputs[0], value.domain)
    kernel = Recurrence(p.ld(value), each, u)
    h = p.buffer(value)
    carry = p.extra(f"carry_{h.name}", value.domain, p.ld(value))
    p.kept.add(carry.name)  # the sampler runs one level at a time
    writes = [h.name, carry.name, *(a.name for a in lists)]
    p.call(kernel, [weight, *operand, carry, h, *lists], value.domain, writes)


def backward(p: Planner, value: Value, each: Kernel, weight: Arg, lists: list[Arg]) -> None:
    kernel = Recurrence(p.ld(value), each, backward=True)
    dy, h, _ = value.inputs
    dz, sums = p.buffer(value), children_of(p, value)
    args = [weight, p.read(dy), p.buffer(h), sums, dz, *lists]
    p.call(kernel, args, value.domain, [dz.name, sums.name])


def children_of(p: Planner, dz: Value) -> Arg:
    return p.extra(f"children_{p.buffer(dz).name}", dz.domain, p.ld(dz))


def children(p: Planner, value: Value) -> None:
    """A buffer that the recurrence's derivative has left."""
    p.names[value] = children_of(p, value.inputs[0]).name


def sparse_outer(p: Planner, value: Value) -> None:
    sums, h = value.inputs
    weight = p.gradient_of[value]
    parameter = p.storage[weight]
    p.clear_gradient(weight)
    kernel = SparseOuter(parameter.ld, h.attrs["top_k"], parameter.ld // p.lanes)
    args = [chosen(p, h), p.read(h), p.read(sums), Arg("gradient", parameter.ident)]
    p.call(kernel, args, h.domain, ["gradient " + parameter.ident], units=kernel.vectors)


LOWER: dict[str, Callable[[Planner, Value], None]] = {
    rule.__name__: rule
    for rule in (
        context,
        context_grad,
        recurrence,
        recurrence_grad,
        sparse_recurrence,
        sparse_recurrence_grad,
        sparse_outer,
        children,
    )
}
