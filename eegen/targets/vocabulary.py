"""The vector vocabulary: every word that a target's template defines, with its meaning in NumPy.

A new target starts here: tests/test_vocabulary.py compiles its template and runs each word against its meaning.
In a meaning, vectors are float64 arrays of L lanes, `p` is memory that is read and `q` memory that is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from eegen.targets.base import Target

DOMAINS = {
    "finite": "every magnitude, zeros and subnormals",
    "moderate": "as finite, but no product overflows",
    "ordered": "infinities, too",
    "any": "infinities and NaN, too",
    "normal": "0.01 to 100",
    "positive": "zero to 1e30",
    "square": "zero, and 1e-12 to 1e4",
    "epsilon": "1e-8",
    "exponent": "-100 to 88, minus infinity and NaN",
    "biased": "1.5 * 2^23 + 127 + n",
}

ROUNDED = 2.0**-23
"""Relative error of one rounding, and of products that are rounded before they are added."""


@dataclass(frozen=True)
class Word:
    """One word: its prototype in C, its meaning, and how exact it must be.

    The error allowed is `within` times `of` (a NumPy expression; "" is the result itself). `inputs` names the domain of
    an operand, one of DOMAINS, where that is not "finite". `literals` are values of operands that must be constants.
    `statement` is how C calls the word where that is not `result = name(operands)`.
    """

    c: str
    numpy: str
    within: float = 0.0
    of: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    literals: tuple[tuple[str, tuple[float, ...]], ...] = ()
    statement: str = ""

    @property
    def name(self) -> str:
        return self.c[: self.c.index("(")].split()[-1].lstrip("*")

    @property
    def returns(self) -> str:
        return self.c[: self.c.index(self.name + "(")].strip()

    @property
    def operands(self) -> dict[str, str]:
        """Name -> C type, in order."""
        inside = self.c[self.c.index("(") + 1 : self.c.rindex(")")]
        found = [re.fullmatch(r"\s*(.*?[ *])(\w+)\s*", part) for part in inside.split(",") if inside != "void"]
        return {match[2]: match[1].strip() for match in found if match}


@dataclass(frozen=True)
class Group:
    """Words that a target has all of, or none."""

    about: str
    needed: Callable[[Target], bool]
    words: tuple[Word, ...]


def _inputs(**domains: str) -> tuple[tuple[str, str], ...]:
    return tuple(domains.items())


MODERATE = _inputs(**dict.fromkeys("abcdx", "moderate"))
SCALES = (1.0, 0.25, 0.35355339)
PRODUCT = "abs(a * b) + abs(c)"

CORE = (
    Word("vf v_zero(void)", "np.zeros(L)"),
    Word("vf v_set1(float x)", "np.full(L, x)", inputs=_inputs(x="any")),
    Word("vf v_load(const float *p)", "p[:L]", inputs=_inputs(p="any")),
    Word("void v_store(float *q, vf a)", "q[:L] = a", inputs=_inputs(a="any")),
    Word("vf v_add(vf a, vf b)", "a + b", ROUNDED),
    Word("vf v_sub(vf a, vf b)", "a - b", ROUNDED),
    Word("vf v_mul(vf a, vf b)", "a * b", ROUNDED, inputs=MODERATE),
    Word("vf v_div(vf a, vf b)", "a / b", ROUNDED, inputs=_inputs(a="moderate", b="normal")),
    Word("vf v_max(vf a, vf b)", "np.where(a > b, a, b)", inputs=_inputs(a="ordered", b="any")),
    Word("vf v_min(vf a, vf b)", "np.where(a < b, a, b)", inputs=_inputs(a="ordered", b="any")),
    Word("vf v_fma(vf a, vf b, vf c)", "a * b + c", ROUNDED, PRODUCT, MODERATE),
    Word("vf v_fnma(vf a, vf b, vf c)", "c - a * b", ROUNDED, PRODUCT, MODERATE),
    Word("vf v_sqrt(vf a)", "np.sqrt(a)", 3e-7, inputs=_inputs(a="positive")),
    Word("vf v_relu(vf a)", "np.where(a < 0, 0, a)", inputs=_inputs(a="any")),
    Word("vf v_keep(vf dy, vf y)", "np.where(y > 0, dy, 0)", inputs=_inputs(dy="any", y="any")),
    Word("vf v_ratio(vf a, vf b, vf eps)", "a / (np.sqrt(b) + eps)", 4e-7,
         inputs=_inputs(a="normal", b="square", eps="epsilon")),
    Word("vf v_pow2(vf t)", "2.0 ** (t.astype(np.float32).view(np.int32) - 0x4B400000 - 127)",
         inputs=_inputs(t="biased")),
    Word("vf v_exp_scaled(vf x, float scale)", "np.where(scale * x < -87.68, 0, np.exp(scale * x))", 4e-6,
         inputs=_inputs(x="exponent"), literals=(("scale", SCALES),)),
    Word("vf v_exp(vf x)", "np.where(x < -87.68, 0, np.exp(x))", 4.2e-7, inputs=_inputs(x="exponent")),
    Word("vf v_tanh(vf x)", "np.tanh(x)", 4e-7, "1", _inputs(x="any")),
)  # fmt: skip

ACROSS = (
    Word("float v_sum(vf a)", "a.sum()", 4e-7, "abs(a).sum()", MODERATE),
    Word("float v_hmax(vf a)", "a.max()", inputs=_inputs(a="ordered")),
    Word("float4 v_sums(vf a, vf b, vf c, vf d)", "np.sum([a, b, c, d], 1)", 4e-7, "np.abs([a, b, c, d]).sum()",
         MODERATE),
    Word("float4 v_maxes(vf a, vf b, vf c, vf d)", "np.max([a, b, c, d], 1)"),
    Word("float4 v_rsqrt4(float4 x)", "1 / np.sqrt(x)", 4e-7, inputs=_inputs(x="normal")),
    Word("void v_store4(float *q, float4 x)", "q[:4] = x", inputs=_inputs(x="any")),
    Word("void v_store_transposed(float *q, int64_t ld, vf a, vf b, vf c, vf d)",
         "q[np.arange(L)[:, None] * int(ld) + np.arange(4)] = np.transpose([a, b, c, d])", literals=(("ld", (4, 24)),)),
)  # fmt: skip

TRANSPOSE = (
    Word("void v_transpose(float *q, int64_t q_ld, const float *p, int64_t p_ld)",
         "q[I * int(q_ld) + J] = p[J * int(p_ld) + I]", literals=(("q_ld", (16, 24)), ("p_ld", (16, 20)))),
)  # fmt: skip

PAIRS = (
    Word("vf v_set_pair(const float *p)", "np.tile(p[:2], L // 2)"),
    Word("vf v_add_pairs(vf a, vf b)",
         "np.concatenate([a.reshape(-1, 2, 2).sum(2), b.reshape(-1, 2, 2).sum(2)], 1).ravel()", ROUNDED),
    Word("void v_transpose_pairs(float *q, int64_t q_ld, const float *p, int64_t p_ld)",
         "q[(J - J % 2 + I // 2 % 2) * int(q_ld) + I // 4 * 4 + I % 2 * 2 + J % 2] = p[I * int(p_ld) + J]",
         literals=(("q_ld", (16, 24)), ("p_ld", (16, 20)))),
)  # fmt: skip

LANES = (
    Word("vf v_fma_lane(vf c, vf a, vf b, int N)", "c + a * b[int(N)]", ROUNDED, "abs(a * b[int(N)]) + abs(c)",
         MODERATE, (("N", (0, 1, 2, 3)),)),
    Word("vf v_mul_lane(vf a, vf b, int N)", "a * b[int(N)]", ROUNDED,
         inputs=MODERATE, literals=(("N", (0, 1, 2, 3)),)),
    Word("int64_t v_opaque(int64_t n)", "n", literals=(("n", (-4, 0, 1000)),)),
    Word("float v_advance(const float *p, int64_t n)", "p[int(n) // 4]", literals=(("n", (0, 4, 64)),),
         statement="const float *at = p; v_advance(at, n); result = *at"),
)  # fmt: skip

# Four keys at once: a vector is quads of four numbers, those of one head.
QUADS = (
    Word("vf v_sum4(vf a, vf b, vf c, vf d)", "np.transpose(np.reshape([a, b, c, d], (4, -1, 4)).sum(2)).ravel()", 4e-7,
         "np.abs([a, b, c, d]).sum()", MODERATE),
    Word("vf v_dots(vf x, vf a, vf b, vf c, vf d)",
         "np.transpose(np.reshape(x * np.array([a, b, c, d]), (4, -1, 4)).sum(2)).ravel()", 4e-7,
         "np.abs(x * np.array([a, b, c, d])).sum()",
         MODERATE),
    Word("vf v_quad(const float *p)", "np.tile(p[:4], L // 4)"),
    Word("vf v_quad_max(vf a)", "np.repeat(a.reshape(-1, 4).max(1), 4)"),
    Word("vf v_quad_sum(vf a)", "np.repeat(a.reshape(-1, 4).sum(1), 4)", 4e-7, "abs(a).sum()", MODERATE),
    Word("vf v_inverse(vf a)", "1 / a", 3e-7, inputs=_inputs(a="normal")),
)  # fmt: skip
SEVERAL_QUADS = (
    Word("vf v_fold(vf a, vf b)", "np.ravel([x.reshape(-1, 2, 4).sum(1) for x in (a, b)])", ROUNDED,
         "abs(a).sum() + abs(b).sum()", MODERATE),
    Word("vf v_key(vf a, int N)", "np.repeat(a.reshape(-1, 4)[:, int(N)], 4)", literals=(("N", (0, 1, 2, 3)),)),
)  # fmt: skip
FOUR_QUADS = (
    Word("vf v_pair(vf a, int N)", "np.repeat(a.reshape(-1, 4)[2 * int(N) : 2 * int(N) + 2], 2, 0).ravel()",
         literals=(("N", (0, 1)),)),
)  # fmt: skip

# What a processor does outside its vectors; each is called, and the clock must not go backwards.
PROCESSOR = (
    Word("float flush_subnormals(float x)", "x * 2.0", ROUNDED, inputs=_inputs(x="normal"),
         statement="uint64_t was = flush_subnormals(); result = x * 2.0f; restore_subnormals(was)"),
    Word("float restore_subnormals(float x)", "1e-40 * x", 1e-45, "1e5", inputs=_inputs(x="normal"),
         statement="restore_subnormals(flush_subnormals()); volatile float tiny = 1e-40f; result = tiny * x"),
    Word("int64_t ticks(void)", "1", statement="uint64_t was = ticks(); result = ticks() >= was"),
    Word("int64_t spin_pause(void)", "1", statement="spin_pause(); result = MOST_SPINS > 0"),
)  # fmt: skip


def renamed(words: tuple[Word, ...], prefix: str, type_: str) -> tuple[Word, ...]:
    """The same words in the vocabulary of another vector type."""

    def change(text: str) -> str:
        return re.sub(r"\bvf\b", type_, re.sub(r"\bv_", prefix, text))

    return tuple(replace(word, c=change(word.c), statement=change(word.statement)) for word in words)


def _named(words: tuple[Word, ...], names: str) -> tuple[Word, ...]:
    return tuple(word for word in words if word.name.removeprefix("v_") in names.split())


NEIGHBOURS = tuple(
    word
    for n in (2, 3, 4)
    for word in renamed(_named(CORE, "zero set1 load store add sub mul fma fnma keep ratio"), f"v{n}_", f"v{n}f")
)
NEIGHBOUR_LANES = tuple(
    replace(word, c=re.sub(r"\bv_", f"v{n}_", re.sub(r"\bvf (?!b\b)", f"v{n}f ", word.c)))
    for n in (2, 3, 4)
    for word in _named(LANES, "fma_lane mul_lane")
)
STREAMING = renamed(CORE, "z_", "zf")

GROUPS: dict[str, Group] = {
    "core": Group("elementwise arithmetic on vectors", lambda target: True, CORE),
    "across": Group("across the lanes of vectors", lambda target: True, ACROSS),
    "processor": Group("the processor outside its vectors", lambda target: True, PROCESSOR),
    "transpose": Group("blocks of a matrix transposed", lambda target: target.transposes_in_product, TRANSPOSE),
    "pairs": Group("scalars in pairs", lambda target: target.pairs_scalars, PAIRS),
    "lanes": Group("a lane of a vector as a scalar", lambda target: target.lane_operand, LANES),
    "neighbours": Group(
        "several neighbouring vectors", lambda target: target.update_vectors > 1, (*NEIGHBOURS, *NEIGHBOUR_LANES)
    ),
    "streaming": Group("streaming vectors", lambda target: target.product_words == "z_", STREAMING),
    "quads": Group("four keys at once", lambda target: bool(target.quads_vocabulary), QUADS),
    "several quads": Group(
        "several quads in a vector", lambda target: bool(target.quads_vocabulary) and target.lanes >= 8, SEVERAL_QUADS
    ),
    "four quads": Group(
        "four quads in a vector", lambda target: bool(target.quads_vocabulary) and target.lanes >= 16, FOUR_QUADS
    ),
}


def words(target: Target) -> Iterator[tuple[str, Word]]:
    """(group, word) of all words that a target must have."""
    for name, group in GROUPS.items():
        if group.needed(target):
            yield from ((name, word) for word in group.words)
