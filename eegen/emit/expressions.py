"""Expressions of ops in the words of a vocabulary: `mul(a, s0)` becomes `v_mul(x, v_set1(scale))`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from eegen.language.graph import Expression
from eegen.plan.kernels.matrix import Product
from eegen.plan.kernels.rows import ACCUMULATOR, OPERAND, Operand

OPERANDS = "abc"


def in_words(text: str, prefix: str, names: Mapping[str, str]) -> str:
    """The text with every word of the vocabulary prefixed and every name replaced."""

    def replaced(match: re.Match[str]) -> str:
        word, opening = match[1], match[2]
        return f"{prefix}{word}(" if opening else names.get(word, word)

    return re.sub(r"\b([a-z][a-z_0-9]*)\b(\()?", replaced, text)


def value(expression: Expression, prefix: str, operands: Sequence[str], scalars: Sequence[str] = ()) -> str:
    """An entry of the result, of operands and scalars given as C expressions."""
    names = dict(zip(OPERANDS, operands)) | {f"s{i}": text for i, text in enumerate(scalars)}
    return in_words(expression.value, prefix, names)


def scalar(text: str, sums: Sequence[str], scalars: Sequence[str], mean: str) -> str:
    """A scalar of a row, of its sums and the scalars before it given as C expressions."""
    names = {f"q{i}": found for i, found in enumerate(sums)} | {f"s{i}": found for i, found in enumerate(scalars)}
    return in_words(text, "v_", names | {"mean": mean, "eps": "RMS_EPS"})


def place(name: str, operand: Operand, row: str) -> str:
    """Where an operand has its row."""
    if operand.gather:
        return f"{name} + (int64_t){operand.gather}[{row}] * {operand.ld}"
    if operand.kind == "rows":
        return f"{name} + {row if row.isidentifier() else f'({row})'} * {operand.ld}"
    return name


def epilogue(kernel: Product, accumulator: str, row: str, col: str) -> str:
    """What a product stores for an accumulator at (row, col): the steps of its epilogue applied, inside out."""
    made: list[str] = []
    for step, name in zip(kernel.epilogue, kernel.operand_names, strict=True):
        assert step.expression is not None
        load = f"{kernel.prefix}load({place(name, step.operand, row)} + {col})" if step.operand else ""
        known = {ACCUMULATOR: accumulator, OPERAND: load}
        operands = [known[i] if i in known else made[i] for i in step.sources]
        made.append(value(step.expression, kernel.prefix, operands))
    return made[-1] if made else accumulator
