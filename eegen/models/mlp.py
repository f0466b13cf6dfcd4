"""The MLP: embeddings of the last few characters side by side, one tanh layer, a head, with biases."""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig, ModelSpec
from eegen.options import Option


def mlp(g: Graph, c: ModelConfig) -> Value:
    tok_emb = g.parameter("tok_emb", c.vocab_size, c.d_embed, role="embedding")
    w1 = g.parameter("w1", c.d_hidden, c.context * c.d_embed)
    b1 = g.parameter("b1", c.d_hidden, init="zeros")
    lm_head = g.parameter("lm_head", c.vocab_size, c.d_hidden, role="head")
    lm_bias = g.parameter("lm_bias", c.vocab_size, init="zeros")

    x = g.apply("context", tok_emb, length=c.context, label="x")
    h = g.apply("tanh", g.apply("bias", g.apply("linear", x, w1), b1), label="h")
    return g.apply("bias", g.apply("linear", h, lm_head), lm_bias, label="logits")


MODEL = ModelSpec(
    name="mlp",
    build=mlp,
    options=(
        Option("context", int, 3, range=(1, 16), short="c", help="Characters of input."),
        Option("d_embed", int, 10, range=(1, 1024), short="e", help="Width of a character's embedding."),
        Option("d_hidden", int, 64, range=(1, 4096), short="n", help="Width of the hidden layer."),
    ),
)
