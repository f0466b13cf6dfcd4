"""Causal attention of each row over its ancestors, and its derivative."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.plan.kernels.kernel import Kernel, Param, Work, index
from eegen.targets import Target


@dataclass(frozen=True)
class Attention(Kernel):
    """Causal attention of each row over its ancestors, or its derivative.

    `width` is that of q, padded. `quads`: four keys are scored together. `prob_heads`: heads that a row of
    probabilities has space for. `group_vectors`: vectors of a group, which is whole heads in whole vectors.
    """

    heads: int
    head_dim: int
    width: int
    quads: bool
    prob_heads: int
    group_vectors: int
    backward: bool

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
            Param("qkv", "rows", "read", 3 * self.width),
            index("anc"),
            index("depth"),
            Param("anc_ld", "capacity"),
        )
        if self.backward:
            return (
                *common,
                Param("probs", "keys", "read", self.prob_heads),
                Param("dout", "rows", "read", self.width),
                Param("dqkv", "rows", "both", 3 * self.width),
                Param("", "range"),
            )
        return (
            *common,
            Param("probs", "keys", "write", self.prob_heads),
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


def attention(heads: int, head_dim: int, width: int, target: Target, backward: bool) -> Attention:
    """The attention kernel of a width: in quads of keys where heads and vectors fit into each other."""
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
    return Attention(heads, head_dim, width, quads, prob_heads, vectors, backward)
