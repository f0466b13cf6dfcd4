"""`eegen ladder`: six models, each with one idea more, on one split of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegen.commands.options import TARGET, Json, command, panel
from eegen.commands.printing import print_json, print_text
from eegen.commands.values import target_options
from eegen.options import Given
from eegen.train.option_table import DATA, SEED


@command(panel(DATA, SEED), TARGET, examples=("eegen ladder", "eegen ladder --data words.txt --plot ladder.svg"))
def ladder(
    general: Given,
    target: Given,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE.svg",
            help="Draw each model's training and validation loss.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train six models, each with one idea more, from bigram counts to a GPT, and print what each idea gains."""
    from eegen.measure import ladder as steps

    if plot:
        from eegen.measure import charts

        charts.check(plot)
    result = steps.climb(
        **general, **target_options(target), on_step=lambda n, r: None if json else print(steps.row(n, r))
    )
    if plot:
        steps.plot(result, plot)
    if json:
        return print_json(result.as_dict())
    print(f"\n{steps.chart(result.results)}\n")
    print_text(steps.summary(result))
    if plot:
        print(f"chart in {plot}")
