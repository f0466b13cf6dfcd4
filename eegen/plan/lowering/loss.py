"""The loss: one kernel computes it and turns logits into their gradient, in place."""

from __future__ import annotations

from eegen.language.graph import Value
from eegen.plan.kernels.loss import Loss
from eegen.plan.lowering.builder import Builder
from eegen.plan.lowering.products import read


def loss(b: Builder, value: Value) -> None:
    (logits,) = value.inputs
    out = read(b, logits)
    b.call(Loss(logits.width, b.ld(logits)), [out], logits.domain, [out.name], "loss")


def loss_grad(b: Builder, value: Value) -> None:
    """What the loss has left in the place of the logits."""
    b.names[value] = b.names[value.inputs[1]]
