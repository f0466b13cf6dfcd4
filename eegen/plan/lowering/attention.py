"""Attention and its derivative."""

from __future__ import annotations

from eegen.language.graph import Value
from eegen.plan.call import Arg
from eegen.plan.kernels.attention import Attention
from eegen.plan.kernels.attention import attention as attention_kernel
from eegen.plan.layout import row_unit
from eegen.plan.lowering.builder import Builder, label
from eegen.plan.lowering.products import read
from eegen.plan.records import up


def attention(b: Builder, value: Value) -> None:
    (qkv,) = value.inputs
    kernel = kernel_of(b, qkv, value.attrs["heads"], False)
    out, probabilities = b.buffer(value), probabilities_of(b, value)
    args = [read(b, qkv), *ancestors(qkv), probabilities, out]
    b.call(kernel, args, value.domain, [out.name, probabilities.name], label(value))


def attention_grad(b: Builder, value: Value) -> None:
    dy, qkv, forward = value.inputs
    kernel = kernel_of(b, qkv, value.attrs["heads"], True)
    out = b.buffer(value)
    b.clear(out, value)
    args = [b.buffer(qkv), *ancestors(qkv), probabilities_of(b, forward), read(b, dy), out]
    b.call(kernel, args, dy.domain, [out.name], label(value))


def kernel_of(b: Builder, qkv: Value, heads: int, backward: bool) -> Attention:
    width = qkv.shape[-1]
    return attention_kernel(heads, width // heads, up(width, row_unit(b.target)), b.target, backward)


def ancestors(qkv: Value) -> list[Arg]:
    """The rows of keys and values of each prefix, and its depth."""
    return [Arg("index", f"ancestors_{qkv.domain}"), Arg("index", "depth")]


def probabilities_of(b: Builder, value: Value) -> Arg:
    """The buffer that an attention leaves to its derivative: [keys][heads] for each row."""
    kernel = kernel_of(b, value.inputs[0], value.attrs["heads"], False)
    return b.auxiliary(f"probs_{b.buffer(value).name}", "keys", kernel.prob_heads)
