"""The sparse RNN: the state is kept, and its k largest entries alone pass through M: k rows of it a step."""

from __future__ import annotations

from eegen.errors import EegenError
from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig, ModelSpec
from eegen.models.rnn import OPTIONS, parts
from eegen.options import Option


def rnn_sparse(g: Graph, c: ModelConfig) -> Value:
    u, m, lm_head = parts(g, c)

    def step(h: Value) -> Value:
        passed = g.apply("top_linear", h, m, top_k=c.top_k)
        return g.apply("relu", g.apply("add", g.apply("add", h, passed), u), label="h")

    return g.apply("linear", g.scan(step, c.d_state), lm_head, label="logits")


def check(c: ModelConfig) -> None:
    if c.top_k > c.d_state:
        raise EegenError(f"`top_k` {c.top_k} is more than `d_state` {c.d_state}")


MODEL = ModelSpec(
    name="rnn-sparse",
    build=rnn_sparse,
    check=check,
    options=(
        *OPTIONS,
        Option("top_k", int, 16, range=(1, 1024), short="k", help="Largest entries of the state that are fed back."),
    ),
)
