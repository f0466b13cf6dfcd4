"""The GPT: token and position embeddings, causal attention and MLP blocks, a head."""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig


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
