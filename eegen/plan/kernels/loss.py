"""Softmax cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.plan.kernels.kernel import Kernel, Param, Work


@dataclass(frozen=True)
class Loss(Kernel):
    """Softmax cross-entropy over `vocab` of `ld` columns: logits become their gradient in place."""

    vocab: int
    ld: int

    template = "kernels/loss.c.j2"

    @property
    def stem(self) -> str:
        return f"cross_entropy_{self.vocab}"

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("s", "state"),
            Param("logits", "rows", "both", self.ld),
            Param("all", "span"),
            Param("positions", "positions"),
        )

    @property
    def flops(self) -> Work:
        return Work(6 * self.vocab)

    @property
    def shape(self) -> str:
        return f"[rows][{self.vocab}]"

    @property
    def about(self) -> str:
        return f"Softmax, cross-entropy and its gradient in place: {self.shape}. {self.flops.row} FLOPs a row."
