"""The RNN: h = relu(h_before M + tok_emb[token] P_tok + pos_emb[position] P_pos), starting from zero, and a head."""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.models.config import ModelConfig, ModelSpec
from eegen.options import Option


def rnn(g: Graph, c: ModelConfig) -> Value:
    u, m, lm_head = parts(g, c)

    def step(h: Value) -> Value:
        return g.apply("relu", g.apply("add", g.apply("linear", h, m), u), label="h")

    return g.apply("linear", g.scan(step, c.d_state), lm_head, label="logits")


def parts(g: Graph, c: ModelConfig) -> tuple[Value, Value, Value]:
    """What each token and position adds to the state, the matrix of the recurrence, the head.

    Drawn in this order, stored [out][in]: h M of the formula is h mᵀ here.
    """
    tok_emb = g.parameter("tok_emb", c.vocab_size, c.d_model, role="embedding")
    pos_emb = g.parameter("pos_emb", c.block_size, c.d_model, role="embedding")
    p_tok = g.parameter("p_tok", c.d_state, c.d_model)
    p_pos = g.parameter("p_pos", c.d_state, c.d_model)
    m = g.parameter("m", c.d_state, c.d_state)
    lm_head = g.parameter("lm_head", c.vocab_size, c.d_state, role="head")

    token = g.apply("linear", g.apply("lookup", tok_emb, by="token"), p_tok)
    position = g.apply("linear", g.apply("lookup", pos_emb, by="position"), p_pos)
    return g.apply("add", token, position, label="u"), m, lm_head


OPTIONS = (
    Option("d_model", int, 16, range=(1, 1024), short="d", always=True, help="Width."),
    Option("d_state", int, 32, range=(1, 1024), short="s", help="Width of the state."),
)

MODEL = ModelSpec("rnn", rnn, OPTIONS)
