"""Ops on rows, collected into row programs: ops over the same rows and width are one kernel."""

from __future__ import annotations

from eegen.language.graph import Value
from eegen.plan.call import Arg
from eegen.plan.kernels.rows import Operand, RowProgram, Step
from eegen.plan.lowering.builder import Builder, label

KINDS = ("row", "elementwise", "lookup", "spread", "sink", "collect")
SUMS = ("sink", "collect")  # whose result has other rows than their operand


def row_op(b: Builder, value: Value) -> None:
    """Collect an op; one over other rows or of another width ends the program before it."""
    if value.op.kind == "spread":
        return
    if b.rows:
        head = operand_of(b.rows[0])
        if head.domain != operand_of(value).domain or b.width(head) != b.width(operand_of(value)):
            flush(b)
    b.rows.append(value)


def operand_of(value: Value) -> Value:
    """The value whose rows an op walks over: its operand where it is a sum over rows."""
    return value.inputs[0] if value.op.kind in SUMS else value


def flush(b: Builder) -> None:
    """Emit the waiting ops as one kernel."""
    values, b.rows = b.rows, []
    if not values:
        return
    domain, width = operand_of(values[0]).domain, b.width(operand_of(values[0]))
    steps: list[Step] = []
    args: list[Arg] = []
    number: dict[Value, int] = {}
    writes: list[str] = []

    def source(operand: Value) -> int:
        if operand not in number:
            where, more = b.operand(operand, domain)
            args.extend(more)
            steps.append(Step("load", (), where))
            number[operand] = len(steps) - 1
        return number[operand]

    def add_to(operand: Value, where: Operand, target: list[Arg], written: str) -> None:
        steps.append(Step("accumulate", (source(operand),), where))
        args.extend(target)
        writes.append(written)

    for value in values:
        if value.op.kind == "collect":
            out = b.buffer(value)
            b.clear(out, value)
            add_to(value.inputs[0], b.row_operand(value, "pair_of"), [out, Arg("index", "pair_of")], out.name)
        elif value.op.kind == "sink":
            weight = b.context.gradient_of[value]
            parameter = b.storage(weight)
            index = f"pair_{value.attrs['by']}" if "by" in value.attrs else ""
            where = Operand("gradient", parameter.ld, index, f"d_{parameter.ident}", parameter.format)
            target = [b.sum_of(weight), *([Arg("index", index)] if index else [])]
            add_to(value.inputs[0], where, target, f"gradient {parameter.ident}")
        elif value.op.kind == "lookup":
            parameter = b.storage(value.inputs[0])
            index = f"pair_{value.attrs['by']}"
            args += [Arg("weight", parameter.ident), Arg("index", index)]
            where = Operand("weights", parameter.ld, index, parameter.ident, parameter.format)
            steps.append(Step("load", (), where))
            number[value] = len(steps) - 1
        else:
            sources = tuple(source(v) for v in value.inputs)
            steps.append(Step(value.op.name, sources, None, value.op.expression, value.op.flops))
            number[value] = len(steps) - 1
        readers = b.context.uses.get(value, ())
        outside = [u for u in readers if u not in values or u.op.kind == "outer"]
        if value in number and (outside or not readers):
            out = b.buffer(value)
            args.append(out)
            writes.append(out.name)
            steps.append(Step("store", (number[value],), b.row_operand(value)))
    real = operand_of(values[0]).width if values[0].op.kind not in SUMS else values[0].inputs[0].width
    vectors = width // b.lanes
    sums = any(step.expression and step.expression.sums for step in steps)
    kernel = RowProgram(real, vectors, tuple(steps), title(values), sums and 8 * vectors <= b.target.registers)
    b.call(kernel, args, domain, writes, ", ".join(dict.fromkeys(label(v) for v in values)))


def title(values: list[Value]) -> str:
    """The ops of a row program, in few words."""
    names = [value.op.name for value in values]
    return "_".join(dict.fromkeys(names)) if len(set(names)) <= 2 else f"{names[0]}_to_{names[-1]}"
