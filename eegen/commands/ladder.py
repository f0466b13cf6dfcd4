"""`eegen ladder`: train six models, each with one idea more, and print what each idea gains."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eegen.commands.shared.options import TARGET, Json, command, panel
from eegen.commands.shared.printing import print_json, print_text
from eegen.commands.shared.values import target_options
from eegen.options import Given
from eegen.train.option_table import DATA, SEED

if TYPE_CHECKING:
    from eegen.measure.ladder import Ladder, Result

NAME, ADDS = 23, 56  # columns of a model's name and of the idea it adds
FIGURES = (("parameters", 10), ("training", 10), ("validation", 12), ("seconds", 9))
WIDE = 2 + NAME + ADDS + 41  # columns; in a narrower terminal the idea has a line of its own


@command(panel(DATA, SEED), TARGET, examples=("eegen ladder", "eegen ladder --data words.txt --plot ladder.svg"))
def ladder(
    general: Given,
    target: Given,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE.svg",
            help="Plot the training and the validation loss of each model.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train six models, each with one idea more, from bigram counts to a GPT, and print what each idea gains."""
    from eegen.measure import charts
    from eegen.measure.ladder import run_ladder

    if plot:
        charts.check_plot(plot)
    result = run_ladder(
        **general, **target_options(target), on_result=lambda n, r: None if json else print(format_row(n, r))
    )
    if plot:
        charts.plot_ladder(result, plot)
    if json:
        return print_json(result.as_dict())
    print(f"\n{format_chart(result.results)}\n")
    print_text(format_summary(result))
    if plot:
        print_text(f"plot in {plot}")


def format_header() -> str:
    idea = f"{'what it adds':{ADDS}}" if is_wide() else ""
    return f"  {'':{NAME}}{idea}" + "".join(f"{title:>{width}}" for title, width in FIGURES)


def format_row(number: int, r: Result) -> str:
    """A model's line of the table; the header too with the first."""
    figures = f"{r.params:>10,}{r.train:>10.4f}{r.val:>12.4f}{r.seconds:>9.2f}"
    above = format_header() + "\n" if number == 1 else ""
    if is_wide():
        return f"{above}{number} {r.name:{NAME}}{r.adds:{ADDS}}{figures}"
    return f"{above}{number} {r.name:{NAME}}{figures}\n    {r.adds}"


def is_wide() -> bool:
    return shutil.get_terminal_size().columns >= WIDE


def format_summary(result: Ladder) -> str:
    trained = sum(r.seconds for r in result.results)
    return (
        f"Trained on {result.train_documents:,} documents, validated on {result.val_documents:,} others; "
        f"{trained:.1f} s of training, {result.seconds:.1f} s in all."
    )


def format_chart(results: Sequence[Result], columns: int | None = None) -> str:
    """A line for each model: ● at its validation loss, with the number, and ○ at its training loss."""
    columns = columns or shutil.get_terminal_size().columns
    losses = [loss for r in results for loss in (r.train, r.val)]
    low, high = min(losses), max(losses)
    width = max(20, min(columns, 110) - NAME - 16)
    lines = [f"{'loss of a character':{NAME + 2}}{low:<{width - 6}.2f}{high:>6.2f}  ● validation"]

    def column_of(loss: float) -> int:
        return round((loss - low) / ((high - low) or 1) * (width - 1))

    for number, r in enumerate(results, 1):
        line = ["╌"] * column_of(min(r.train, r.val)) + [" "] * width
        line[column_of(r.train)] = "○"
        line[column_of(r.val)] = "●"
        lines.append(f"{number} {r.name:{NAME}}{''.join(line[:width])}  {r.val:.4f}")
    lines.append(f"{'':{NAME + 2}}{'○ training':>{width}}")
    return "\n".join(lines)
