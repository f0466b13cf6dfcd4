"""From a plan to C text: the Jinja environment, its functions and filters."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jinja2
import numpy as np

from eegen.emit import arena, calls, entries, expressions, functions
from eegen.emit.lines import COLUMNS, fit, shell
from eegen.plan.kernels.attention import Attention
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.kernels.schedules import lane_product, outer, product
from eegen.plan.kernels.za_schedules import za_outer, za_product
from eegen.plan.records import Plan, up
from eegen.resources import resource


def f32(x: float) -> str:
    """A C literal of the nearest float."""
    text = repr(float(np.float32(x))) if x else "0.0"
    shortest = np.format_float_positional(np.float32(x), unique=True) if 1e-4 <= abs(x) < 1e6 else ""
    text = shortest + "0" if shortest.endswith(".") else shortest or text
    return text + "f"


def comment(text: str, width: int = COLUMNS) -> str:
    """A C comment, its lines filled."""
    lines, line = [], "/*"
    for word in text.split():
        if len(line) + 1 + len(word) > width - 3:
            lines.append(line)
            line = "  "
        line += " " + word
    return "\n".join([*lines, line + " */"])


def heading_rule(number: int, title: str) -> int:
    """The length of the line of = that ends a section's heading."""
    return COLUMNS - len(f"/* ==== {number} {title}  */")


def kernel_comment(plan: Plan, kernel: Kernel) -> str:
    """What stands above a kernel: what it computes, its FLOPs and bytes, and for which values."""
    users = plan.users(kernel)
    used = f" Used by: {', '.join(users)}." if users else ""
    return comment(f"{kernel.about} {kernel.bytes.text('bytes')}{used}")


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["f32"] = f32
    env.filters["wrap"] = fit
    env.filters["shell"] = shell
    env.filters["up16"] = partial(up, unit=16)
    env.globals |= {
        "parameter_list": functions.parameter_list,
        "call": functions.call,
        "inner_parameters": functions.inner_parameters,
        "inner_arguments": functions.inner_arguments,
        "expression": expressions.value,
        "scalar": expressions.scalar,
        "place": expressions.place,
        "epilogue": expressions.epilogue,
        "printed_format": entries.printed_format,
        "served_call": entries.served_call,
        **{schedule.__name__: schedule for schedule in (product, lane_product, outer, za_product, za_outer)},
    }
    return env


def quads_vocabulary(plan: Plan) -> str:
    """The vocabulary for four keys at once, where an attention kernel is written in it."""
    needed = any(isinstance(kernel, Attention) and kernel.quads for kernel in plan.kernels)
    return plan.target.quads_vocabulary if needed else ""


def render(plan: Plan, template: str = "program.c.j2", **more: Any) -> str:
    """The C source of a plan."""
    header = arena.header_dtype(plan.slot_count, len(plan.kernels))
    text = (
        environment()
        .get_template(template)
        .render(
            plan=plan,
            target=plan.target,
            model=plan.build.model,
            profile=plan.build.profile,
            quads_vocabulary=quads_vocabulary(plan),
            fields=arena.FIELDS,
            arrays=arena.ARRAYS,
            max_threads=arena.MAX_THREADS,
            header_bytes=up(header.itemsize, 64),
            heading_rule=heading_rule,
            kernel_comment=partial(kernel_comment, plan),
            pointers=partial(calls.pointers, plan),
            statement=partial(calls.statement, plan),
            loss_statement=partial(calls.loss_statement, plan),
            **more,
        )
    )
    return fit(text)
