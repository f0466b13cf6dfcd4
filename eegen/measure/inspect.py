"""`eegen inspect`: the kernels of a model as a table, the C of each, and what the compiler made of it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eegen.errors import EegenError
from eegen.measure import assembly
from eegen.models.config import ModelConfig
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.planner import Plan
from eegen.run.compiled import compile_model
from eegen.targets import cpu_machine

# Assembly, with the kernels kept apart: the vector vocabulary is declared inline, kernels are not.
APART = ("-S", "-finline-hint-functions")


@dataclass(frozen=True)
class Row:
    """One kernel of the table. Bytes are those of the row buffers it is called with, and of weights and gradients."""

    name: str
    shape: str
    tile: str
    flops: int  # a row (a key, for attention)
    row_bytes: int
    weight_bytes: int
    calls: int
    instructions: Counter[str]


@dataclass(frozen=True)
class Report:
    plan: Plan
    machine: str
    sections: dict[str, str]  # of the C, by name
    functions: dict[str, str]  # of the assembly, by name
    rows: list[Row]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.plan.build.name,
            "target": self.plan.target.name,
            "params": self.plan.count,
            "sections": list(self.sections),
            "kernels": [
                {
                    "name": row.name,
                    "shape": row.shape,
                    "tile": row.tile,
                    "flops": row.flops,
                    "row_bytes": row.row_bytes,
                    "weight_bytes": row.weight_bytes,
                    "calls": row.calls,
                    "instructions": dict(row.instructions),
                }
                for row in self.rows
            ],
        }


def inspect(
    config: ModelConfig,
    target: str = "auto",
    svl_bits: int | None = None,
    cc: str | None = None,
    optimizer: str = "adam",
) -> Report:
    """Compile a model to assembly and take it apart."""
    compiled = compile_model(config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind="object", flags=APART)
    plan = compiled.plan
    machine = cpu_machine() if plan.target.machine == "any" else plan.target.machine
    sections = sections_of(compiled.build.source_path.read_text(encoding="utf-8"))
    functions = assembly.functions(compiled.build.path.read_text(encoding="utf-8", errors="replace"))
    rows = [_row(plan, kernel, sections, functions, machine) for kernel in plan.kernels]
    return Report(plan, machine, sections, functions, rows)


def sections_of(source: str) -> dict[str, str]:
    """The sections of a generated file by the name in their heading; what comes before the first is `contents`."""
    pieces = re.split(r"^/\* ==== \d+ (\w+) =+ \*/\n", source, flags=re.MULTILINE)
    return {"contents": pieces[0], **dict(zip(pieces[1::2], pieces[2::2]))}


def functions_in(section: str, functions: dict[str, str]) -> list[str]:
    """The compiled functions that a section of the C defines, in the order of the file."""
    defined = re.findall(r"^[\w ]*?\**(\w+)\([^;]*?\)\s*\{", section, flags=re.MULTILINE)
    return [name for name in dict.fromkeys(defined) if name in functions]


def _row(plan: Plan, kernel: Kernel, sections: dict[str, str], functions: dict[str, str], machine: str) -> Row:
    loss = [plan.loss] if plan.loss else []
    calls = [call for call in (*plan.forward, *loss, *plan.backward) if call.kernel == kernel]
    texts = [functions[f] for f in functions_in(sections.get(kernel.name, ""), functions)]
    return Row(
        name=kernel.name,
        shape=kernel.shape,
        tile=str(getattr(kernel, "tile", "")),
        flops=kernel.flops.row or kernel.flops.key,
        row_bytes=kernel.bytes.row,
        weight_bytes=kernel.bytes.once,
        calls=len(calls),
        instructions=sum((assembly.count(text, machine) for text in texts), Counter()),
    )


# --- in the terminal


def show(report: Report, name: str, asm: bool) -> None:
    """The table; or one section, as C or as assembly."""
    if not name:
        if asm:
            raise EegenError(f"--asm needs --kernel NAME: {', '.join(row.name for row in report.rows)}")
        return _show_table(report)
    if name not in report.sections:
        raise EegenError(f"there is no section {name!r}; the sections are {', '.join(report.sections)}")
    section = report.sections[name]
    if not asm:
        return _show_code(section, "c")
    inside = functions_in(section, report.functions)
    if not inside:
        raise EegenError(f"the section {name!r} has no functions of its own in the compiled code")
    _show_code("\n\n".join(f"{function}:\n{report.functions[function]}" for function in inside) + "\n", "gas")


def _show_code(text: str, language: str) -> None:
    """Highlighted in a terminal; as it is for a pipe."""
    if not sys.stdout.isatty():
        print(text, end="")
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, language, theme="ansi_dark", background_color="default", word_wrap=False))


Column = tuple[str, Sequence[str | int]]
WIDE = 200  # columns of a terminal from which one table will do


def _show_table(report: Report) -> None:
    from rich.console import Console

    plan = report.plan
    kinds = assembly.kinds_of((row.instructions for row in report.rows), report.machine)
    names = [row.name for row in report.rows]
    shapes: list[Column] = [
        ("kernel", names),
        ("shape", [_plain(row.shape) for row in report.rows]),
        ("tile", [row.tile for row in report.rows]),
        ("calls", [row.calls for row in report.rows]),
        ("FLOPs a row", [row.flops for row in report.rows]),
        ("bytes a row", [row.row_bytes for row in report.rows]),
        ("weights", [row.weight_bytes for row in report.rows]),
    ]
    counts: list[Column] = [(kind, [row.instructions.get(kind, 0) for row in report.rows]) for kind in kinds]
    console = Console() if sys.stdout.isatty() else Console(width=WIDE + 40)
    console.print(f"{plan.build.name}: {plan.count:,} parameters", highlight=False)
    if console.width >= WIDE:
        console.print(_table([*shapes, *counts]))
    else:
        console.print(_table(shapes))
        console.print("Instructions of the compiled code, by kind:")
        console.print(_table([("kernel", names), *counts]))
    console.print(f"Sections of the C: {', '.join(report.sections)}", highlight=False)
    console.print("`eegen inspect --kernel NAME` shows one, with --asm what the compiler made of it.", highlight=False)


def _table(columns: Sequence[Column]) -> Any:
    """A table with numbers to the right and nothing where there is nothing."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, values in columns:
        justify: Literal["left", "right"] = "right" if isinstance(values[0], int) else "left"
        table.add_column(title, justify=justify, no_wrap=title == "kernel")
    for row in zip(*(values for _, values in columns)):
        table.add_row(*((f"{x:,}" if x else "") if isinstance(x, int) else x for x in row))
    return table


def _plain(text: str) -> str:
    """Brackets would be markup to rich."""
    return text.replace("[", r"\[")
