"""The kernels a plan is made of, as frozen data: two equal ones are printed once and called twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eegen.targets import Target, Tile


@dataclass(frozen=True)
class Operand:
    """Where a step of a kernel reads or writes.

    `space` is rows (a row buffer), weight (a parameter), gradient (its gradient). `index` names the index
    array that picks the row, or is empty: the row itself, or for a vector parameter its only row.
    """

    space: str
    ld: int
    index: str = ""


@dataclass(frozen=True)
class Step:
    """One line of a row program or of an epilogue: `op` on earlier steps (by number) and at most one operand.

    In an epilogue -1 stands for the accumulator, and step i gives number i.
    """

    op: str
    sources: tuple[int, ...] = ()
    operand: Operand | None = None


@dataclass(frozen=True)
class Kernel:
    """What every kernel has: the template that prints it and the name it wants; see Planner.kernel."""

    template: str
    stem: str = field(compare=False)
    name: str = field(default="", compare=False, kw_only=True)

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    @property
    def flops(self) -> int:
        """Of a row, or of whatever unit `about` names."""
        return 0


MOST_TURNED = 128  # of k, in a panel of B turned round: with 64 columns of it 32 KB, which stay in L1


@dataclass(frozen=True)
class Product(Kernel):
    """C[rows][n] = A[rows][k] · B[k][n], then the epilogue on every element."""

    k: int
    n: int
    lda: int
    ldb: int
    ldc: int
    tile: Tile
    epilogue: tuple[Step, ...] = ()
    prefix: str = "v_"
    streams: bool = False  # the weights do not fit L2
    turned: bool = False  # B lies as [n][k]: a panel at a time is turned round
    paired: bool = False  # so that scalars of A are read two at a time

    @property
    def block(self) -> int:
        """The part of k done at a time."""
        parts = [part for part in range(16, MOST_TURNED + 1, 16) if self.k % part == 0]
        return max(parts) if self.turned and self.k > MOST_TURNED and parts else self.k

    @property
    def flops(self) -> int:
        return 2 * self.k * self.n

    @property
    def shape(self) -> str:
        ops = "".join(f", {s.op.removesuffix('_swapped')}" for s in self.epilogue)
        return f"[rows][{self.k}] x [{self.k}][{self.n}]{ops}"

    @property
    def about(self) -> str:
        return f"C = A B on every row: {self.shape}. Tile {self.tile}. {self.flops} FLOPs a row."


@dataclass(frozen=True)
class Outer(Kernel):
    """G[m][n] = sum over rows of A[row][m] · B[row][n]: the gradient of a matrix.

    `fused`: the optimizer takes each tile of it out of the registers, and G is written only when asked for.
    """

    m: int
    n: int
    lda: int
    ldb: int
    ldg: int
    twin_ld: int
    tile: Tile
    fused: bool = False
    streams: bool = False  # the weights and moments do not fit L2

    @property
    def tiles(self) -> int:
        """Tiles of rows of G, the units in which threads share it."""
        return -(-self.m // self.tile.rows)

    @property
    def shape(self) -> str:
        return f"[{self.m}][rows] x [rows][{self.n}]"

    @property
    def about(self) -> str:
        return f"G = A^T B over all rows: {self.shape}. Tile {self.tile}. {self.flops} FLOPs a row."

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n


STEP_FLOPS = {"load": 0, "store": 0, "rms": 3, "rms_grad": 6}  # for each number of a row; 1 where it is not said


@dataclass(frozen=True)
class RowProgram(Kernel):
    """Steps on each row by itself, the row held in `vectors` vectors; `width` numbers of it are real."""

    width: int
    vectors: int
    steps: tuple[Step, ...]

    @property
    def flops(self) -> int:
        return self.width * sum(STEP_FLOPS.get(step.op, 1) for step in self.steps)

    @property
    def shape(self) -> str:
        return f"[rows][{self.width}]"

    @property
    def about(self) -> str:
        steps = ", ".join(s.op for s in self.steps if s.op != "load")
        return f"Each row by itself, {self.shape}: {steps}. {self.flops} FLOPs a row."


@dataclass(frozen=True)
class Attention(Kernel):
    """Causal attention of each row over its ancestors, or its derivative."""

    heads: int
    head_dim: int
    width: int  # floats of q, padded
    quads: bool  # four keys are scored together
    prob_heads: int  # heads that a row of probabilities has room for
    group_vectors: int  # vectors of a group: whole heads in whole vectors
    backward: bool

    @property
    def kind(self) -> str:
        return "attention_grad" if self.backward else "attention"

    @property
    def flops(self) -> int:
        return (8 if self.backward else 4) * self.heads * self.head_dim

    @property
    def shape(self) -> str:
        return f"{self.heads} heads of {self.head_dim}"

    @property
    def about(self) -> str:
        what = "Derivative of causal attention" if self.backward else "Causal attention"
        return f"{what} of each prefix over its ancestors: {self.shape}. {self.flops} FLOPs a key."

    @property
    def scale(self) -> float:
        return float(self.head_dim**-0.5)


@dataclass(frozen=True)
class Loss(Kernel):
    """Softmax cross-entropy over `vocab` of `ld` columns: logits become their gradient in place."""

    vocab: int
    ld: int

    @property
    def flops(self) -> int:
        return 6 * self.vocab

    @property
    def shape(self) -> str:
        return f"[rows][{self.vocab}]"

    @property
    def about(self) -> str:
        return f"Softmax, cross-entropy and its gradient in place: {self.shape}. {self.flops} FLOPs a row."


@dataclass(frozen=True)
class Zero(Kernel):
    """Clears rows of `ld` floats."""

    ld: int

    @property
    def flops(self) -> int:
        return 0

    @property
    def shape(self) -> str:
        return f"[rows][{self.ld}]"

    @property
    def about(self) -> str:
        return f"Zeros: {self.shape}."


@dataclass(frozen=True)
class Arg:
    """One argument of a call: a row buffer, a parameter, its twin, its gradient, the thread's sum for it, an index."""

    space: str
    name: str


@dataclass
class Call:
    """A kernel on its arguments, over the rows of `domain` (pair, prefix) or, for `outer`, tiles of the result.

    Each thread does its own rows; a gradient is cleared by the first, for which the others have sums of their own. With
    `whole` each reads all rows, unless they `exchange` sums over rows of their own. `barrier` that all must have
    arrived before: always, or where rows are too few to exchange sums.
    """

    kernel: Kernel
    args: tuple[Arg, ...]
    domain: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    serial: bool = False
    whole: bool = False
    exchanges: bool = False
    barrier: Literal["", "few", "always"] = ""

    @property
    def adds(self) -> bool:
        """Whether it adds to a gradient, or clears it for that."""
        return self.serial or any(arg.space == "sum" for arg in self.args)


def attention(heads: int, head_dim: int, width: int, target: Target, backward: bool) -> Attention:
    """The attention kernel of a width: in quads of keys where heads and vectors fit into each other."""
    template = "attention_grad" if backward else "attention"
    lanes = target.lanes
    quads = lanes >= 4 and head_dim % 4 == 0 and (head_dim % lanes == 0 or lanes % head_dim == 0)
    prob_heads, vectors = heads, 0
    if quads:
        score_vectors = head_dim // 4
        scores = -(-(width // lanes) // score_vectors)
        wanted = 8 if target.lane_broadcast else 4
        groups = -(-scores // min(scores, max(1, wanted // score_vectors)))
        vectors = -(-scores // groups) * score_vectors
        prob_heads = scores * lanes // 4
    return Attention(
        f"kernels/{template}.c.j2",
        f"causal_{template}",
        heads,
        head_dim,
        width,
        quads,
        prob_heads,
        vectors,
        backward,
    )
