"""Causal attention of each row over its ancestors, and its derivative."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.plan.kernels.kernel import Kernel, Param, Work, index
from eegen.plan.kernels.quads import Quads, quads
from eegen.targets import Target

MOST_KEYS = 256  # of a row: the largest block size


@dataclass(frozen=True)
class Attention(Kernel):
    """Causal attention of each row over its ancestors, or its derivative.

    `width` is that of q, padded. `quads`: the layout where four keys are scored together; None: one after the other.
    """

    heads: int
    head_dim: int
    width: int
    quads: Quads | None
    backward: bool

    most_keys = MOST_KEYS
    restrict = True

    @property
    def template(self) -> str:  # type: ignore[override]
        return f"kernels/{self.kind}.c.j2"

    @property
    def kind(self) -> str:
        return "attention_grad" if self.backward else "attention"

    @property
    def stem(self) -> str:
        return f"{self.kind}_{self.heads}x{self.head_dim}"

    @property
    def params(self) -> tuple[Param, ...]:
        common = (
            Param("qkv", "rows", "read", self.qkv_ld),
            index("ancestors"),
            index("depth"),
            Param("keys_ld", "capacity"),
        )
        if self.backward:
            return (
                *common,
                Param("probabilities", "keys", "read", self.prob_heads),
                Param("d_out", "rows", "read", self.width),
                Param("d_qkv", "rows", "both", self.qkv_ld),
                Param("", "range"),
            )
        return (
            *common,
            Param("probabilities", "keys", "write", self.prob_heads),
            Param("out", "rows", "write", self.width),
            Param("", "range"),
        )

    @property
    def flops(self) -> Work:
        return Work(key=(8 if self.backward else 4) * self.heads * self.head_dim)

    @property
    def shape(self) -> str:
        return f"{self.heads} heads of {self.head_dim}"

    @property
    def about(self) -> str:
        what = "Derivative of causal attention" if self.backward else "Causal attention"
        return f"{what} of each prefix over its ancestors: {self.shape}. {self.flops.key} FLOPs a key."

    @property
    def scale(self) -> float:
        return float(self.head_dim**-0.5)

    @property
    def prob_heads(self) -> int:
        """Heads that a row of probabilities has space for."""
        return self.quads.heads if self.quads else self.heads

    @property
    def qkv_ld(self) -> int:
        """Floats of a row of q, k and v, side by side."""
        return 3 * self.width

    @property
    def key_at(self) -> int:
        """Where k begins in such a row."""
        return self.width

    @property
    def value_at(self) -> int:
        return 2 * self.width

    @property
    def heads_end(self) -> int:
        """The column after the last head."""
        return self.heads * self.head_dim

    @property
    def padded(self) -> bool:
        return self.heads_end < self.width


def attention(heads: int, head_dim: int, width: int, target: Target, backward: bool) -> Attention:
    """The attention kernel of a width: in quads of keys where the target and the heads allow it."""
    return Attention(heads, head_dim, width, quads(head_dim, width, target), backward)
