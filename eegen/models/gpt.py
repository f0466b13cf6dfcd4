"""The GPT: token and position embeddings, causal attention and MLP blocks, a head."""

from __future__ import annotations

from eegen.errors import EegenError
from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig, ModelSpec
from eegen.options import Option


def gpt(g: Graph, c: ModelConfig) -> Value:
    d, v = c.d_model, c.vocab_size
    tok_emb = g.parameter("tok_emb", v, d, role="embedding")
    pos_emb = g.parameter("pos_emb", c.block_size, d, role="embedding")

    def norm(x: Value, gain: str) -> Value:
        x = g.apply("rms", x)
        return g.apply("gain", x, g.parameter(gain, d, init="ones")) if c.norm_gains else x

    token, position = g.apply("lookup", tok_emb, by="token"), g.apply("lookup", pos_emb, by="position")
    x = g.apply("rms", g.apply("add", token, position), label="e")
    for i in range(c.n_layers):
        name = f"layers.{i}."
        wqkv = g.parameter(name + "wqkv", 3 * d, d, parts=(name + "wq", name + "wk", name + "wv"))
        wo = g.parameter(name + "wo", d, d)
        w1 = g.parameter(name + "w1", c.d_ff, d)
        w2 = g.parameter(name + "w2", d, c.d_ff)
        qkv = g.apply("linear", norm(x, name + "norm1"), wqkv, label="qkv")
        a = g.apply("attention", qkv, heads=c.n_heads, label="a")
        x = g.apply("add", x, g.apply("linear", a, wo), label="r")
        h = g.apply(c.activation, g.apply("linear", norm(x, name + "norm2"), w1), label="h")
        x = g.apply("add", x, g.apply("linear", h, w2), label="x")
    if c.final_norm:
        x = norm(x, "norm")
    head = tok_emb if c.tie_embeddings else g.parameter("lm_head", v, d, role="head")
    return g.apply("linear", x, head, label="logits")


def check(c: ModelConfig) -> None:
    if c.d_model % c.n_heads:
        divisors = [n for n in range(1, c.d_model + 1) if c.d_model % n == 0]
        raise EegenError(
            f"`d_model` {c.d_model} is not divisible by `n_heads` {c.n_heads}; "
            f"heads for it: {', '.join(map(str, divisors))}"
        )


MODEL = ModelSpec(
    name="gpt",
    build=gpt,
    check=check,
    options=(
        Option("d_model", int, 16, range=(1, 1024), short="d", always=True, help="Width."),
        Option("n_heads", int, 4, range=(1, 1024), short="h", help="Attention heads; they divide the width."),
        Option("n_layers", int, 1, range=(1, 16), short="l", help="Layers."),
        Option(
            "d_ff",
            int,
            0,
            range=(1, 8192),
            derive=lambda values: 4 * values["d_model"],
            default_text="4 x width",
            short="ff",
            help="Width of the MLP's hidden layer.",
        ),
        Option("activation", str, "relu", choices=("relu", "relu2"), help="Activation of the MLP: relu or relu2."),
        Option("norm_gains", bool, False, short="gains", help="Give the norms learnable gains."),
        Option("final_norm", bool, False, short="finalnorm", help="Add a norm before the head."),
        Option("tie_embeddings", bool, False, short="tied", help="Use the token embedding as the head."),
    ),
)
