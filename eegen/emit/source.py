"""From plan to C text: the Jinja environment, its filters, and the two programs it prints."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import jinja2
import numpy as np

from eegen.emit import arena, calls, functions
from eegen.plan.planner import Plan
from eegen.resources import resource


def f32(x: float) -> str:
    """A C literal of the nearest float."""
    text = repr(float(np.float32(x))) if x else "0.0"
    shortest = np.format_float_positional(np.float32(x), unique=True) if 1e-4 <= abs(x) < 1e6 else ""
    text = shortest + "0" if shortest.endswith(".") else shortest or text
    return text + "f"


def wrap(statement: str, width: int = 120) -> str:
    """Statements of C whose long lines go on, after a comma between arguments, in further lines."""
    lines: list[str] = []
    for line in statement.splitlines():
        inside = " " * (len(line) - len(line.lstrip()) + 8)
        while len(line) > width and (commas := list(re.finditer(", ", line[:width]))):
            depths = [line.count("(", 0, comma.start()) - line.count(")", 0, comma.start()) for comma in commas]
            at = max(comma.end() for comma, depth in zip(commas, depths, strict=True) if depth == min(depths))
            lines.append(line[: at - 1])
            line = inside + line[at:]
        lines.append(line)
    return "\n".join(lines) + "\n"


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
    env.filters["wrap"] = wrap
    env.globals["parameter_list"] = functions.parameter_list
    env.globals["call"] = functions.call
    return env


def render(plan: Plan, template: str = "program.c.j2", **more: Any) -> str:
    """The C source of a plan."""
    header = arena.header_dtype(len(plan.slots), len(plan.kernels))
    text = (
        environment()
        .get_template(template)
        .render(
            plan=plan,
            pointers=lambda listed: calls.pointers(plan, listed),
            statement=lambda one: calls.statement(plan, one),
            target=plan.target,
            model=plan.build.model,
            profile=plan.build.profile,
            fields=arena.FIELDS,
            arrays=arena.ARRAYS,
            max_threads=arena.MAX_THREADS,
            header_bytes=-(-header.itemsize // 64) * 64,
            **more,
        )
    )
    return squeeze(text)


def squeeze(text: str) -> str:
    """No trailing blanks, and never two empty lines in a row."""
    lines: list[str] = []
    for line in (line.rstrip() for line in text.splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines) + "\n"
