"""The GRU: gates decide how much of the state is kept and how much of it a new one sees; a head on the state.

z = sigmoid(W_z x + U_z h + b_z)    r = sigmoid(W_r x + U_r h + b_r)    c = tanh(W_c x + U_c (r h) + b_c)
h = z h_before + (1 - z) c
"""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig, ModelSpec
from eegen.options import Option


def gru(g: Graph, c: ModelConfig) -> Value:
    tok_emb = g.parameter("tok_emb", c.vocab_size, c.d_model, role="embedding")
    pos_emb = g.parameter("pos_emb", c.block_size, c.d_model, role="embedding")
    inputs = {gate: g.parameter(f"w_{gate}", c.d_state, c.d_model) for gate in "zrc"}
    states = {gate: g.parameter(f"u_{gate}", c.d_state, c.d_state) for gate in "zrc"}
    biases = {gate: g.parameter(f"b_{gate}", c.d_state, init="zeros") for gate in "zrc"}
    lm_head = g.parameter("lm_head", c.vocab_size, c.d_state, role="head")

    token, position = g.apply("lookup", tok_emb, by="token"), g.apply("lookup", pos_emb, by="position")
    x = g.apply("add", token, position, label="x")

    def gate(name: str, h: Value) -> Value:
        """What goes into a gate: of the input, the state and the bias."""
        own = g.apply("bias", g.apply("linear", x, inputs[name]), biases[name])
        return g.apply("add", g.apply("linear", h, states[name]), own)

    def step(h: Value) -> Value:
        z = g.apply("sigmoid", gate("z", h), label="z")
        r = g.apply("sigmoid", gate("r", h), label="r")
        new = g.apply("tanh", gate("c", g.apply("mul", r, h, label="rh")), label="c")
        return g.apply("add", new, g.apply("mul", z, g.apply("sub", h, new)), label="h")

    return g.apply("linear", g.scan(step, c.d_state), lm_head, label="logits")


MODEL = ModelSpec(
    name="gru",
    build=gru,
    options=(
        Option("d_model", int, 16, range=(1, 1024), short="d", always=True, help="Width of the embeddings."),
        Option("d_state", int, 32, range=(1, 1024), short="s", help="Width of the state."),
    ),
)
