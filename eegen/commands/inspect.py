"""`eegen inspect`: the kernels of a model as text of 80 columns, the C of each, and the instructions it compiles to."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from eegen.commands.shared.options import MODEL, TARGET, TRAINING, Json, command, panel
from eegen.commands.shared.printing import print_json, print_text, wrap
from eegen.commands.shared.values import model_configuration, target_options
from eegen.errors import EegenError
from eegen.options import Given
from eegen.train.option_table import DATA

if TYPE_CHECKING:
    from eegen.measure.inspect import Report, Row

COLUMNS = (("calls", 7), ("FLOPs", 8), ("bytes", 7), ("weights", 10))  # titles and widths of the numbers
WIDEST = 100  # columns of text, in a terminal that has more


@command(
    MODEL,
    TARGET,
    panel(DATA, TRAINING.options["optimizer"]),
    examples=("eegen inspect --d-model 64", "eegen inspect --kernel product_16x64_relu --asm"),
)
def inspect(
    model: Given,
    target: Given,
    general: Given,
    kernel: Annotated[
        str, typer.Option("--kernel", metavar="NAME", help="Print this section of the C.", show_default=False)
    ] = "",
    asm: Annotated[bool, typer.Option("--asm", metavar="", help="Print its assembly instead.")] = False,
    json: Json = False,
) -> None:
    """Print the kernels of a model: shapes, tiles, FLOPs, bytes, instructions; or the code of one of them."""
    from eegen.measure.inspect import inspect as inspect_model
    from eegen.run.data import load_documents, vocabulary

    config = model_configuration(model, vocabulary(load_documents(general.pop("data", None))))
    report = inspect_model(config, **target_options(target), **general)
    if json:
        print_json(report.as_dict())
    elif kernel:
        print_section(report, kernel, asm)
    elif asm:
        raise EegenError(f"--asm needs --kernel NAME: {', '.join(row.name for row in report.rows)}")
    else:
        print_kernels(report)


def print_kernels(report: Report) -> None:
    """Each kernel in three lines: its numbers, its shape and tile, the instructions of its compiled code."""
    from eegen.measure import assembly

    width = min(shutil.get_terminal_size().columns, WIDEST)
    name_width = max(len(row.name) for row in report.rows)
    kinds = assembly.kinds_of((row.instructions for row in report.rows), report.machine)
    print(f"{report.plan.build.name}: {report.plan.count:,} parameters")
    print_text("FLOPs and bytes are those of one row, weights the bytes of all weights and gradients of a call.")
    print(f"\n{'kernel':<{name_width}}" + "".join(f"{title:>{columns}}" for title, columns in COLUMNS))
    for row in report.rows:
        print(f"{bold(row.name)}{'':{name_width - len(row.name)}}{format_numbers(row)}")
        used_by = ", ".join(row.used_by)
        facts = (row.shape, row.tile and f"tile of {row.tile}", used_by and f"used by {used_by}")
        about = "; ".join(fact for fact in facts if fact)
        counts = ", ".join(f"{row.instructions[kind]:,}\u00a0{kind}" for kind in kinds if row.instructions.get(kind))
        for text in (about, counts):
            if text:
                print(wrap(f"  {text}", width, "    "))
    sections = f"Sections of the C: {', '.join(report.sections)}."
    print(f"\n{wrap(sections, width, '  ')}")
    print_text("`eegen inspect --kernel NAME` prints one of them, with --asm its assembly.")


def format_numbers(row: Row) -> str:
    """The numbers of a kernel under `COLUMNS`, blank where there are none."""
    numbers = (row.calls, row.flops, row.row_bytes, row.weight_bytes)
    return "".join(f"{f'{n:,}' if n else '':>{columns}}" for n, (_, columns) in zip(numbers, COLUMNS)).rstrip()


def bold(text: str) -> str:
    return typer.style(text, bold=True) if sys.stdout.isatty() else text


def print_section(report: Report, name: str, asm: bool) -> None:
    """One section of the C, or the assembly of its functions."""
    from eegen.measure.inspect import functions_in

    if name not in report.sections:
        raise EegenError(f"there is no section {name!r}; the sections are {', '.join(report.sections)}")
    section = report.sections[name]
    if not asm:
        return print_code(section, "c")
    own = functions_in(section, report.functions)
    if not own:
        raise EegenError(f"the section {name!r} has no functions of its own in the compiled code")
    print_code("\n\n".join(f"{function}:\n{report.functions[function]}" for function in own) + "\n", "gas")


def print_code(text: str, language: str) -> None:
    """Code, highlighted in a terminal."""
    if not sys.stdout.isatty():
        return print(text, end="")
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, language, theme="ansi_dark", background_color="default", word_wrap=True))
