"""The optimizers: what each keeps beside a weight and how it moves it, in float64, as the generated C is held to.

A rule gets a tensor, its gradient and its slots and gives the new tensor and slots. Decay is decoupled: it is
lr · weight_decay · w, beside the gradient's step and not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from eegen.language.graph import Graph

Array = np.ndarray
Tensors = Mapping[str, Array]
Rule = Callable[..., tuple[Array, ...]]

# Newton-Schulz: X <- a X + (b A + c A²) X with A = X Xᵀ takes every singular value to about 1 in five iterations.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_ITERATIONS = 5


@dataclass(frozen=True)
class How:
    """The numbers of one step; `step` counts from 1. `clip` bounds the norm of all gradients together, 0 does not."""

    step: int
    lr: float
    beta1: float = 0.85
    beta2: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0


@dataclass(frozen=True)
class Optimizer:
    """`options` are the fields of How that it heeds besides lr and clip; `lr` is a good one for the default model.

    `matrix` is the rule of matrix parameters where they have one of their own; the other tensors' rate is then
    `share` of it, since a step of Adam is the larger one the wider the model.
    """

    name: str
    slots: tuple[str, ...]
    options: tuple[str, ...]
    lr: float
    rule: Rule
    matrix: Rule | None = None
    share: float = 1.0


def adam(how: How, w: Array, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
    m = how.beta1 * m + (1 - how.beta1) * g
    v = how.beta2 * v + (1 - how.beta2) * g * g
    mean, square = m / (1 - how.beta1**how.step), v / (1 - how.beta2**how.step)
    return w - how.lr * mean / (np.sqrt(square) + how.eps), m, v


def adamw(how: How, w: Array, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
    moved, m, v = adam(how, w, g, m, v)
    return moved - how.lr * how.weight_decay * w, m, v


def sgd(how: How, w: Array, g: Array, v: Array) -> tuple[Array, ...]:
    v = how.momentum * v + g
    return w - how.lr * v, v


def lion(how: How, w: Array, g: Array, m: Array) -> tuple[Array, ...]:
    way = np.sign(how.beta1 * m + (1 - how.beta1) * g)
    return w - how.lr * (way + how.weight_decay * w), how.beta2 * m + (1 - how.beta2) * g


def muon(how: How, w: Array, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
    """Of a matrix: momentum after Nesterov, orthogonalised. `v` is Adam's, for the tensors that Muon leaves to it."""
    m = how.momentum * m + g
    out, inner = w.shape
    u = orthogonal(g + how.momentum * m) * np.sqrt(max(1, out / inner))
    return w - how.lr * (u + how.weight_decay * w), m, v


def orthogonal(g: Array) -> Array:
    """Nearly U Vᵀ of g = U S Vᵀ: the singular values come out between about 0.7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(NEWTON_SCHULZ_ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if g.shape[0] > g.shape[1] else x


BETAS = ("beta1", "beta2")
OPTIMIZERS: dict[str, Optimizer] = {
    o.name: o
    for o in (
        Optimizer("adam", ("m", "v"), BETAS, 0.01, adam),
        Optimizer("adamw", ("m", "v"), (*BETAS, "weight_decay"), 0.01, adamw),
        Optimizer("sgd", ("v",), ("momentum",), 0.1, sgd),
        Optimizer("lion", ("m",), (*BETAS, "weight_decay"), 0.002, lion),
        Optimizer("muon", ("m", "v"), ("momentum", "weight_decay", *BETAS), 0.02, adam, muon, 0.5),
    )
}


# The numbers of a step besides the learning rate, by the names of the arena's fields, and what they are unless given.
NUMBERS: dict[str, float] = {
    name: getattr(How, name) for name in ("beta1", "beta2", "eps", "momentum", "weight_decay", "clip")
}


def matrix_parameters(graph: Graph) -> set[str]:
    """The tensors that `matrix` rules are for: no embedding, no head, no vector; q, k and v are three."""
    return {
        part.name
        for p in graph.parameters
        if p.attrs["role"] == "matrix" and len(p.shape) == 2
        for part in p.attrs["parts"]
    }


def clipped(gradients: Tensors, clip: float) -> dict[str, Array]:
    """Gradients scaled down together to a norm of at most `clip`."""
    norm = float(np.sqrt(sum((g * g).sum() for g in gradients.values())))
    scale = clip / norm if clip and norm > clip else 1.0
    return {name: g * scale for name, g in gradients.items()}


def first_slots(optimizer: Optimizer, weights: Tensors) -> dict[str, Array]:
    """What an optimizer starts from, keyed `<slot>.<tensor>`."""
    return {f"{slot}.{name}": np.zeros_like(w) for slot in optimizer.slots for name, w in weights.items()}


def advance(
    optimizer: Optimizer, how: How, weights: Tensors, gradients: Tensors, slots: Tensors, matrices: Collection[str] = ()
) -> tuple[dict[str, Array], dict[str, Array]]:
    """One step of every tensor: the new weights and slots."""
    new, kept = {}, {}
    others = replace(how, lr=how.lr * optimizer.share)
    for name, g in clipped(gradients, how.clip).items():
        own = [weights[name], g, *(slots[f"{slot}.{name}"] for slot in optimizer.slots)]
        if optimizer.matrix and name in matrices:
            new[name], *state = optimizer.matrix(how, *own)
        else:
            new[name], *state = optimizer.rule(others, *own)
        kept.update({f"{slot}.{name}": value for slot, value in zip(optimizer.slots, state, strict=True)})
    return new, kept
