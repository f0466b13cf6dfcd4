"""From graph to schedule: parameter layout, fused kernels, row buffers and their lifetimes, barriers.

The plan is what the templates print. It knows shapes, lanes and row domains, but no C.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar, cast

from eegen.language.autodiff import backward
from eegen.language.graph import Graph, Part, Value
from eegen.language.ops import OPS
from eegen.language.optimizers import OPTIMIZERS, Optimizer
from eegen.models import build_graph
from eegen.plan import tree
from eegen.plan.build_config import BuildConfig
from eegen.plan.call import Arg, Call
from eegen.plan.kernels.attention import Attention, attention
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.kernels.loss import Loss
from eegen.plan.kernels.matrix import MOST_TRANSPOSED, Outer, Product, block
from eegen.plan.kernels.rows import Operand, RowProgram, Step, Zero
from eegen.plan.muon import Hidden, hidden_matrices
from eegen.targets import TARGETS, Target, Tile, with_vectors

K = TypeVar("K", bound=Kernel)


def up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def apart(width: int) -> int:
    """The stride of rows of that width: multiples of 512 bytes would put a panel of columns into few sets of L1."""
    return width + 16 if width % 128 == 0 else width


# Op kinds whose kernels take the stride of every operand.
STRIDED = ("product", "outer", "row", "elementwise", "sink")


def product_shape(vectors: int, k: int) -> str:
    """What a measured tile is for: a product `vectors` wide of inner size k."""
    return f"product {vectors} x {k}"


def outer_shape(m: int, vectors: int) -> str:
    """The same for a weight gradient of m rows."""
    return f"outer {m} x {vectors}"


@dataclass(frozen=True)
class Parameter:
    """Where one parameter lives: `rows` x `cols` floats, `ld` apart, at `offset`, both sides padded to vectors.

    `flipped`: the main copy (and its gradient and moments) is [in][out], not [out][in].
    `packed`: offset of the other copy, among the packed_size, or -1. `segment`: padded length of one stacked part.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    init: str
    rows: int
    cols: int
    ld: int
    packed_ld: int
    offset: int
    flipped: bool
    packed: int
    segment: int
    fused: bool = False  # updated where its gradient is made
    hidden: bool = False  # the optimizer has a rule for it as a matrix

    @property
    def ident(self) -> str:
        return self.name.replace(".", "_")

    @property
    def size(self) -> int:
        return self.rows * self.ld

    @property
    def count(self) -> int:
        return self.shape[0] * (self.shape[1] if len(self.shape) > 1 else 1)


@dataclass(frozen=True)
class Buffer:
    """A row buffer: `ld` floats for each row of its domain, kept in `slot` while it lives."""

    name: str
    domain: str
    ld: int
    slot: int = -1


@dataclass
class Plan:
    """Everything the templates need."""

    build: BuildConfig
    target: Target
    parameters: list[Parameter] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    slots: list[tuple[str, int]] = field(default_factory=list)  # (domain, ld)
    kernels: list[Kernel] = field(default_factory=list)
    forward: list[Call] = field(default_factory=list)
    loss: Call | None = None
    backward: list[Call] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)  # where a thread adds up its part of a gradient, among its sums
    hidden: list[Hidden] = field(default_factory=list)
    logits: str = ""
    matmul_weights: int = 0

    @property
    def weights(self) -> int:
        """Floats of one copy of all parameters, padding included."""
        return max(up(p.offset + p.size, 16) for p in self.parameters)

    @property
    def streams(self) -> bool:
        """Weights, their other copy and the moments are more than an L2 of 2 MB keeps beside rows and code."""
        return 4 * (self.weights * (1 + len(self.moments)) + self.packed_size) > 1 << 20

    @property
    def packed_size(self) -> int:
        return max((up(p.packed + p.cols * p.packed_ld, 16) for p in self.parameters if p.packed >= 0), default=0)

    @property
    def sums_size(self) -> int:
        return sum(up(p.size, 16) for p in self.parameters if p.ident in self.sums)

    @property
    def count(self) -> int:
        """Trained numbers, padding not counted."""
        return sum(p.count for p in self.parameters)

    @property
    def moments(self) -> tuple[str, ...]:
        """What the optimizer keeps beside every weight."""
        return self.optimizer.slots

    @property
    def optimizer(self) -> Optimizer:
        return OPTIMIZERS[self.build.optimizer]

    @property
    def loose(self) -> list[tuple[int, int]]:
        """The ranges of the weights that are updated number by number from a gradient in memory."""
        return self.ranges([p for p in self.parameters if not p.fused and not p.hidden])

    @property
    def elementwise(self) -> list[tuple[int, int]]:
        """Those that would be if no update were fused."""
        return self.ranges([p for p in self.parameters if not p.hidden])

    def ranges(self, parameters: list[Parameter]) -> list[tuple[int, int]]:
        ranges: list[tuple[int, int]] = []
        for p in parameters:
            end = up(p.offset + p.size, 16)
            if ranges and ranges[-1][1] == p.offset:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((p.offset, end))
        return ranges

    @property
    def loose_matrices(self) -> list[Parameter]:
        return [p for p in self.parameters if p.packed >= 0 and not p.fused]

    @property
    def scratch(self) -> int:
        """Floats that a product needs to turn a part of an operand round."""
        return max((kernel.scratch for kernel in self.kernels), default=0)

    @property
    def slack(self) -> int:
        """Rows past the last that a product may read."""
        return max(16, self.target.svl_bits // 32)

    @property
    def work(self) -> int:
        """Floats that the optimizer needs to work on one hidden matrix: two of it, four of its square."""
        sizes = [m.kernel.ld * (2 * (m.tall + self.slack) + 4 * (m.kernel.padded + self.slack)) for m in self.hidden]
        return up(max(sizes, default=0), 16)

    @property
    def quads_isa(self) -> str:
        """Whose vocabulary for four keys at once the attention kernels need, if any."""
        needed = any(isinstance(k, Attention) and k.quads for k in self.kernels)
        return ("neon" if self.target.lane_broadcast else self.target.isa) if needed else ""

    @property
    def ancestor_lists(self) -> tuple[str, ...]:
        """The row domains whose ancestors are listed for each prefix row."""
        args = [a.name for c in self.forward for a in c.args if a.name.startswith("ancestors_")]
        return tuple(sorted({name.removeprefix("ancestors_") for name in args}))

    @property
    def exchange(self) -> int:
        """Rows from which two threads do better to exchange sums (m x n) than rows (m / 2 + n).

        Few are not worth a wait. Measured at widths of 64 to 256.
        """
        outers = [c.kernel for c in self.backward if c.exchanges and isinstance(c.kernel, Outer)]
        return max([160, *(4 * k.m * k.n // (k.m + 2 * k.n) for k in outers)])

    @property
    def exchanges(self) -> bool:
        return any(c.exchanges for c in self.backward)

    def tile(self, vectors: int, k: int) -> Tile:
        """The register tile of a product: the one measured on this machine, or the target's own."""
        chosen = dict(self.build.tiles).get(product_shape(vectors, k))
        return self.target.tile_of(vectors, chosen) if chosen else self.target.tile(vectors, k)

    def outer_tile(self, m: int, vectors: int) -> Tile:
        """The same of a weight gradient."""
        chosen = dict(self.build.tiles).get(outer_shape(m, vectors))
        return self.target.outer_tile_of(vectors, chosen) if chosen else self.target.outer_tile(m, vectors, multiple=4)

    def flops(self, positions: float) -> float:
        """Model FLOPs of a step of that many positions, every one counted, shared or not."""
        return 6 * self.matmul_weights * positions


def make_plan(build: BuildConfig) -> Plan:
    graph, logits = build_graph(build.model)
    loss = graph.apply("cross_entropy", logits)
    split = len(graph.values)
    gradients = backward(graph, loss)
    return Planner(build, graph, loss, gradients, split).plan


class Planner:
    """One pass over the graph's values in order, emitting calls; then buffers get slots, calls get barriers."""

    def __init__(
        self, build: BuildConfig, graph: Graph, loss: Value, gradients: dict[Value, list[Value]], split: int
    ) -> None:
        self.plan = Plan(build, with_vectors(TARGETS[build.target], build.svl_bits))
        self.lanes = self.plan.target.lanes
        self.unit = max(self.lanes, 4)
        self.graph = graph
        self.names: dict[Value, str] = {}
        self.storage: dict[Value, Parameter] = {}
        self.kernels: dict[Kernel, Kernel] = {}
        self.uses: dict[Value, list[Value]] = {}
        for value in graph.values:
            for operand in value.inputs:
                self.uses.setdefault(operand, []).append(value)
        self.terms = gradients
        self.gradient_of = {term: parameter for parameter, terms in gradients.items() for term in terms}
        self.started: set[Value] = set()  # parameters whose gradient holds something
        self.waiting: list[Value] = []  # gradients that wait for a use of their weights
        self.emitted: set[Value] = set()
        self.kept: set[str] = set()  # buffers that hold what a later forward pass reads
        self.program: list[Value] = []  # row ops waiting to become one row program
        self.calls = self.plan.forward
        self.lay_out_parameters()
        self.fuse()
        for i, value in enumerate(graph.values):
            if i == split:
                self.flush()
                self.calls = self.plan.backward
            self.emit(value)
        self.flush()
        self.plan.hidden = hidden_matrices(self)
        self.plan.logits = self.names[loss.inputs[0]]
        self.plan.kernels = list(self.kernels.values())
        self.assign_slots()
        self.place_barriers()

    # --- parameters ---------------------------------------------------------------------------

    def lay_out_parameters(self) -> None:
        offset = packed_size = 0
        for value in self.graph.parameters:
            uses = self.uses.get(value, [])
            factors = [use for use in uses if OPS[use.op].weight]
            matrix = any(OPS[use.op].weight == "both" for use in factors)
            self.plan.matmul_weights += sum(value.shape[0] * use.attrs.get("top_k", value.shape[1]) for use in factors)
            parts = value.attrs["parts"]
            segment = value.shape[0] // len(parts)
            if matrix:
                segment = up(segment, self.unit)
                out, inner = segment * len(parts), up(value.shape[1], self.unit)
                flipped = not any(use.op == "lookup" for use in uses) and out > inner
            elif factors:
                segment = out = up(value.shape[0], self.unit)
                inner, flipped = up(value.shape[1], self.unit), True
            else:
                *outer, last = value.shape
                out, inner, flipped = (outer[0] if outer else 1), up(last, self.unit), False
            rows, cols = (inner, out) if flipped else (out, inner)
            packed = matrix and not (
                self.plan.target.turns and all(OPS[use.op].kind in ("product", "row") for use in uses)
            )
            ld, packed_ld = apart(cols) if matrix else cols, apart(rows) if packed else 0
            terms = self.terms[value]
            hidden = bool(self.plan.optimizer.matrix) and value.attrs["role"] == "hidden" and len(value.shape) == 2
            fused = matrix and len(terms) == 1 and terms[0].op == "outer" and not hidden
            parameter = Parameter(
                value.label,
                value.shape,
                parts,
                value.attrs["init"],
                rows,
                cols,
                ld,
                packed_ld,
                offset,
                flipped,
                packed_size if packed else -1,
                segment,
                fused,
                hidden,
            )
            offset += up(rows * ld, 16)
            packed_size += up(cols * packed_ld, 16)
            self.plan.parameters.append(parameter)
            self.storage[value] = parameter

    # --- names and buffers ----------------------------------------------------------------------

    def width(self, value: Value) -> int:
        """Floats of a row, every part of it padded to whole vectors."""
        *outer, last = value.shape
        size = up(last, self.unit)
        for extent in outer:
            size *= extent
        return size

    def ld(self, value: Value) -> int:
        """Floats from a row to the next: more than its width where only kernels that take a stride touch it."""
        users = [value, *self.uses.get(value, ())]
        strided = all(OPS[user.op].kind in STRIDED for user in users)
        return apart(self.width(value)) if strided else self.width(value)

    def buffer(self, value: Value) -> Arg:
        """The row buffer of a value, named after its label or its op."""
        if value not in self.names:
            name = stem = value.label or value.op
            number = 1
            while name in self.plan.buffers:
                number += 1
                name = f"{stem}{number}"
            self.names[value] = name
            self.plan.buffers[name] = Buffer(name, value.domain, self.ld(value))
        return Arg("rows", self.names[value])

    def extra(self, name: str, domain: str, ld: int) -> Arg:
        """A buffer that is no value's: what one kernel leaves to another, or keeps between its levels."""
        self.plan.buffers.setdefault(name, Buffer(name, domain, ld))
        return Arg("rows", name)

    def kernel(self, kernel: K) -> K:
        """The one printed for it: an equal kernel that exists, or this one with a name of its own."""
        if kernel not in self.kernels:
            for part in kernel.parts:
                self.kernel(part)
            taken = {k.name for k in self.kernels.values()}
            name, number = kernel.stem, 1
            while name in taken:
                number += 1
                name = f"{kernel.stem}_{number}"
            self.kernels[kernel] = replace(kernel, name=name)
        return cast(K, self.kernels[kernel])

    def call(
        self,
        kernel: Kernel,
        args: list[Arg],
        domain: str,
        writes: list[str],
        *,
        serial: bool = False,
        units: int = 0,
        exchanges: bool = False,
    ) -> None:
        names = [
            a.name if a.space == "rows" else "weight " + a.name for a in args if a.space in ("rows", "weight", "packed")
        ]
        reads = tuple(n for n in names if n not in writes)
        printed = self.kernel(kernel)
        self.calls.append(Call(printed, tuple(args), domain, reads, tuple(writes), serial, units, exchanges))

    def operand(self, value: Value, domain: str) -> tuple[Operand, list[Arg]]:
        """How a kernel over rows of `domain` reads a value: a spread is read through its index."""
        if value.op == "spread" and value not in self.names:
            source = value.inputs[0]
            return Operand("rows", self.ld(source), "pair_of"), [self.buffer(source), Arg("index", "pair_of")]
        if value.domain == "param":
            parameter = self.storage[value]
            return Operand("weight", parameter.ld), [Arg("weight", parameter.ident)]
        return Operand("rows", self.ld(value)), [self.buffer(value)]

    # --- fusion -----------------------------------------------------------------------------------

    def fuse(self) -> None:
        """Chains of elementwise ops that follow a product alone become its epilogue.

        `self.tail[value]` is the chain's last value, where the product is emitted; the others emit nothing.
        """
        self.chain: dict[Value, list[Value]] = {}
        self.inside: set[Value] = set()
        for value in self.graph.values:
            if OPS.get(value.op) is None or OPS[value.op].kind != "product":
                continue
            chain = [value]
            while True:
                uses = self.uses.get(chain[-1], [])
                if len(uses) != 1 or uses[0].op not in OPS or OPS[uses[0].op].kind != "elementwise":
                    break
                if uses[0].domain != value.domain or uses[0] in self.chain or uses[0].inputs.count(chain[-1]) != 1:
                    break
                chain.append(uses[0])
            if any(link in self.inside for link in chain[1:]):
                chain = chain[:1]
            self.chain[chain[-1]] = chain
            self.inside.update(chain)

    # --- emission -----------------------------------------------------------------------------------

    def emit(self, value: Value) -> None:
        if value.op == "parameter" or value.op not in OPS:
            return
        kind = OPS[value.op].kind
        if value in self.chain:
            self.flush()
            self.emit_product(value)
            self.emitted.update(self.chain[value])
            self.release()
        elif value in self.inside or kind == "constant":
            return
        elif kind in ("row", "elementwise", "sink", "collect"):
            self.emit_row(value)
        else:
            self.flush()
            if kind in tree.LOWER:
                tree.LOWER[kind](self, value)
            else:
                getattr(self, f"emit_{kind}")(value)
            self.emitted.add(value)
            self.release()

    def emit_product(self, last: Value) -> None:
        chain = self.chain[last]
        value = chain[0]
        x, weight = value.inputs
        parameter = self.storage[weight]
        steps, extra = [], []
        for i, (before, link) in enumerate(pairwise(chain)):
            others = [v for v in link.inputs if v is not before]
            operand, args = self.operand(others[0], last.domain) if others else (None, [])
            # The accumulator is the first source unless the op takes it second.
            steps.append(Step(link.op if link.inputs[0] is before else link.op + "_swapped", (i - 1,), operand))
            extra += args
        forward = value.op == "linear"
        turned = parameter.flipped != forward and parameter.packed < 0
        copy = Arg("weight" if parameter.flipped == forward or turned else "packed", parameter.ident)
        n = self.width(value)
        k = x.width if len(x.shape) == 1 and not self.plan.target.lane_broadcast else self.width(x)
        tile = self.plan.tile(n // self.lanes, k)
        panel = tile.vectors * self.lanes * up(block(k, True), 16) if turned else self.plan.target.panel_floats(k, n)
        kernel = Product(
            k,
            n,
            self.ld(x),
            parameter.ld if copy.space == "weight" else parameter.packed_ld,
            self.ld(last),
            tile,
            tuple(steps),
            "z_" if self.plan.target.svl_bits else "v_",
            streams=self.plan.streams,
            transposed=turned,
            paired=turned and self.plan.target.pairs and n == self.lanes and k in range(2 * n, MOST_TRANSPOSED + 1, 2),
            panel=panel,
            schedule=self.plan.target.product_template,
        )
        out = self.buffer(last)
        args = [self.read(x), copy, out, *extra]
        self.call(kernel, args, last.domain, [out.name])

    def read(self, value: Value) -> Arg:
        """A value as a whole matrix; a spread is written out first."""
        if value.op == "spread" and value not in self.names:
            operand, args = self.operand(value, value.domain)
            out = self.buffer(value)
            steps = (Step("load", (), operand), Step("store", (0,), Operand("rows", self.ld(value))))
            kernel = RowProgram(value.width, self.width(value) // self.lanes, steps, "spread")
            self.call(kernel, [*args, out], value.domain, [out.name])
        return self.buffer(value)

    def stem(self, parameter: Value) -> str:
        return parameter.label.split(".")[-1]

    def emit_outer(self, value: Value) -> None:
        """A gradient that updates its weights at once waits for the last product with the old ones."""
        if self.storage[self.gradient_of[value]].fused:
            self.waiting.append(value)
            self.release()
        else:
            self.emit_gradient(value)

    def release(self) -> None:
        for value in list(self.waiting):
            weight = self.gradient_of[value]
            if all(use in self.emitted for use in self.uses[weight]):
                self.waiting.remove(value)
                self.emit_gradient(value)

    def emit_gradient(self, value: Value) -> None:
        dy, x = value.inputs
        weight = self.gradient_of[value]
        parameter = self.storage[weight]
        a, b = (x, dy) if parameter.flipped else (dy, x)
        m, n = self.width(a), self.width(b)
        kernel = Outer(
            m,
            n,
            self.ld(a),
            self.ld(b),
            parameter.ld,
            parameter.packed_ld,
            self.plan.outer_tile(m, n // self.lanes),
            parameter.fused,
            self.plan.streams,
            partial=not self.plan.target.svl_bits,
            moments=self.plan.moments if parameter.fused else (),
            schedule=self.plan.target.outer_template,
        )
        if weight in self.started:
            raise NotImplementedError(f"two products make the gradient of {weight.label}")
        self.started.add(weight)
        args = [self.read(a), self.read(b), Arg("gradient", parameter.ident)]
        writes = ["gradient " + parameter.ident] + (["weight " + parameter.ident] if parameter.fused else [])
        self.call(kernel, args, dy.domain, writes, units=kernel.tiles, exchanges=kernel.partial)

    def attention_kernel(self, qkv: Value, heads: int, backward: bool) -> Attention:
        width = qkv.shape[-1]
        return attention(heads, width // heads, up(width, self.unit), self.plan.target, backward)

    def probabilities(self, value: Value) -> Arg:
        """The buffer the forward pass of an attention leaves to its derivative: [keys][heads] for each row."""
        name = f"probs_{self.buffer(value).name}"
        if name not in self.plan.buffers:
            kernel = self.attention_kernel(value.inputs[0], value.attrs["heads"], False)
            self.plan.buffers[name] = Buffer(name, "keys", kernel.prob_heads)
        return Arg("rows", name)

    def emit_attention(self, value: Value) -> None:
        (qkv,) = value.inputs
        kernel = self.attention_kernel(qkv, value.attrs["heads"], False)
        out, probs = self.buffer(value), self.probabilities(value)
        args = [self.read(qkv), Arg("index", f"ancestors_{qkv.domain}"), Arg("index", "depth"), probs, out]
        self.call(kernel, args, value.domain, [out.name, probs.name])

    def emit_attention_grad(self, value: Value) -> None:
        dy, qkv, forward = value.inputs
        kernel = self.attention_kernel(qkv, value.attrs["heads"], True)
        out = self.buffer(value)
        self.zero(out, value)
        args = [
            self.buffer(qkv),
            Arg("index", f"ancestors_{qkv.domain}"),
            Arg("index", "depth"),
            self.probabilities(forward),
        ]
        args += [self.read(dy), out]
        self.call(kernel, args, dy.domain, [out.name])

    def emit_loss(self, value: Value) -> None:
        self.read(value.inputs[0])

    def emit_loss_grad(self, value: Value) -> None:
        """The loss kernel turns logits into their gradient in place, at the end of the forward pass."""
        logits = value.inputs[1]
        self.names[value] = self.names[logits]
        kernel = Loss(logits.width, self.ld(logits))
        name = self.names[logits]
        self.plan.loss = Call(self.kernel(kernel), (Arg("rows", name),), logits.domain, (), (name,))

    def zero(self, arg: Arg, value: Value) -> None:
        self.call(Zero(self.ld(value)), [arg], value.domain, [arg.name])

    # --- row programs -----------------------------------------------------------------------------

    def emit_row(self, value: Value) -> None:
        """Collect row ops over the same rows and width; anything else ends the program."""
        if value.op == "spread":
            return
        if self.program:
            head = self.program[0]
            if self.rows_of(head) != self.rows_of(value) or self.row_width(head) != self.row_width(value):
                self.flush()
        self.program.append(value)

    def rows_of(self, value: Value) -> str:
        """The domain a row op walks over: that of what it reads where it is a sum over rows."""
        return value.inputs[0].domain if OPS[value.op].kind in ("sink", "collect") else value.domain

    def row_width(self, value: Value) -> int:
        source = value.inputs[0] if OPS[value.op].kind in ("sink", "collect") else value
        return self.width(source)

    def flush(self) -> None:
        """Print the waiting row ops as one kernel."""
        values, self.program = self.program, []
        if not values:
            return
        domain, width = self.rows_of(values[0]), self.row_width(values[0])
        steps: list[Step] = []
        args: list[Arg] = []
        number: dict[Value, int] = {}
        writes: list[str] = []

        def source(operand: Value) -> int:
            if operand not in number:
                where, more = self.operand(operand, domain)
                args.extend(more)
                steps.append(Step("load", (), where))
                number[operand] = len(steps) - 1
            return number[operand]

        for value in values:
            kind = OPS[value.op].kind
            if kind == "collect":
                out = self.buffer(value)
                self.zero(out, value)
                where = Operand("rows", self.ld(value), "pair_of")
                steps.append(Step("accumulate", (source(value.inputs[0]),), where))
                args += [out, Arg("index", "pair_of")]
                writes.append(out.name)
            elif kind == "sink":
                weight = self.gradient_of[value]
                parameter = self.storage[weight]
                index = f"pair_{value.attrs['by']}" if value.op == "lookup_grad" else ""
                origin = source(value.inputs[0])
                steps.append(Step("accumulate", (origin,), Operand("gradient", parameter.ld, index)))
                args.append(self.sum_of(weight))
                if index:
                    args.append(Arg("index", index))
                writes.append("gradient " + parameter.ident)
            elif value.op == "lookup":
                parameter = self.storage[value.inputs[0]]
                index = f"pair_{value.attrs['by']}"
                args += [Arg("weight", parameter.ident), Arg("index", index)]
                steps.append(Step("load", (), Operand("weight", parameter.ld, index)))
                number[value] = len(steps) - 1
            else:
                sources = tuple(source(v) for v in value.inputs)
                steps.append(Step(value.op, sources))
                number[value] = len(steps) - 1
            outside = [u for u in self.uses.get(value, ()) if u not in values or OPS[u.op].kind == "outer"]
            if value in number and outside:
                out = self.buffer(value)
                args.append(out)
                writes.append(out.name)
                steps.append(Step("store", (number[value],), Operand("rows", self.ld(value))))
        labels = [v.op for v in values if v.op != "spread"]
        stem = "_".join(dict.fromkeys(labels)) if len(set(labels)) <= 2 else f"{labels[0]}_to_{labels[-1]}"
        true = values[0].inputs[0].width if OPS[values[0].op].kind in ("sink", "collect") else values[0].width
        kernel = RowProgram(true, width // self.lanes, tuple(steps), stem)
        self.call(kernel, args, domain, writes)

    def sum_of(self, weight: Value) -> Arg:
        """Where a thread adds its rows' part of a gradient: the first to the gradient, others to sums of their own."""
        self.clear_gradient(weight)
        self.plan.sums.setdefault(self.storage[weight].ident, self.plan.sums_size)
        return Arg("sum", self.storage[weight].ident)

    def clear_gradient(self, weight: Value) -> None:
        """Sums into a gradient start from zero, unless a product has written it already."""
        if weight in self.started:
            return
        self.started.add(weight)
        parameter = self.storage[weight]
        kernel = Zero(parameter.ld)
        arg = Arg("gradient", parameter.ident)
        self.call(kernel, [arg], str(parameter.rows), ["gradient " + parameter.ident], serial=True)

    # --- buffers and barriers -----------------------------------------------------------------------

    def assign_slots(self) -> None:
        """Give every row buffer a slot; one whose last reader has run is free for the next of its size."""
        calls = self.plan.forward + self.plan.backward
        last: dict[str, int] = {}
        for i, call in enumerate(calls):
            for name in (*call.reads, *call.writes):
                last[name] = i
        for name in (self.plan.logits, *self.kept):
            last[name] = len(calls)
        free: list[int] = []
        for i, call in enumerate(calls):
            for name in call.writes:
                buffer = self.plan.buffers.get(name)
                if buffer is None or buffer.slot >= 0:
                    continue
                shape = (buffer.domain, buffer.ld)
                slot = next((s for s in free if self.plan.slots[s] == shape), -1)
                if slot < 0:
                    slot = len(self.plan.slots)
                    self.plan.slots.append(shape)
                else:
                    free.remove(slot)
                self.plan.buffers[name] = replace(buffer, slot=slot)
            for name in dict.fromkeys((*call.reads, *call.writes)):
                buffer = self.plan.buffers.get(name)
                if buffer is not None and last[name] == i:
                    free.append(buffer.slot)

    def place_barriers(self) -> None:
        """A call waits for the others where it meets memory that another thread may be using since the last wait."""
        for calls in (self.plan.forward, self.plan.backward):
            few, many = self.waits(calls, False), self.waits(calls, True)
            calls[:] = [
                replace(call, barrier="always" if i in many else "few" if i in few else "")
                for i, call in enumerate(calls)
            ]

    def waits(self, calls: list[Call], many: bool) -> set[int]:
        """The calls that wait, where rows are few or so many that threads exchange sums of weight gradients.

        They do in two turns with a wait between them: each adds up its own rows for the others, then for itself.
        """
        found = set()
        since: list[Call] = []
        for i, call in enumerate(calls):
            turn = many and call.exchanges
            first = replace(call, writes=call.writes[:1], units=0) if turn else call
            if any(self.conflict(earlier, first) for earlier in since):
                found.add(i)
                since = []
            since = [replace(call, units=0)] if turn else [*since, call]
        return found

    def conflict(self, one: Call, two: Call) -> bool:
        """May threads meet, one of them in each of these calls? They do not in rows of their own."""
        shared = self.memory(one.writes) & self.memory(two.reads + two.writes)
        shared |= self.memory(one.reads) & self.memory(two.writes)
        if one.whole or two.whole:
            return bool(shared)
        return any(isinstance(place, str) for place in shared) and not (one.adds and two.adds)

    def memory(self, names: tuple[str, ...]) -> set[int | str]:
        """Slots of buffers; gradients and weights by their names."""
        return {self.plan.buffers[n].slot if n in self.plan.buffers else n for n in names}
