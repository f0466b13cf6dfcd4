"""`eegen bench`: the time of a training step beside what the processor could do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from eegen.commands.options import MODEL, TARGET, TRAINING, Json, Panel, command
from eegen.commands.printing import print_json
from eegen.commands.values import checked_options, model_configuration, target_options
from eegen.options import Given

TIME = replace(TRAINING.options["time"], help="Seconds to measure.", default_text="2, more with --profile or --against")
MEASURED = Panel(TRAINING.title, {**TRAINING.options, "time": TIME})


@command(
    MEASURED,
    MODEL,
    TARGET,
    first=("data", "batch", "time"),
    examples=("eegen bench --batch 64 --time 5", "eegen bench --d-model 64 --profile --plot roofline.svg"),
)
def bench(
    training: Given,
    model: Given,
    target: Given,
    profile: Annotated[
        bool, typer.Option("--profile", metavar="", help="Print the time and speed of each kernel.")
    ] = False,
    against: Annotated[
        list[str],
        typer.Option("--against", metavar="NAME", help="Time the same model in torch or jax too.", show_default=False),
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.svg", help="Draw a roofline of the kernels.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the time of a training step and compare it with the peak of the processor."""
    from eegen.measure import bench as measurement
    from eegen.run.data import load_documents, vocabulary

    documents = load_documents(training.get("data"))
    chars = vocabulary(documents)
    options = checked_options(training)
    if plot:
        from eegen.measure import charts

        charts.check_plot(plot)
    result = measurement.bench(
        model_configuration(model, chars),
        documents,
        chars,
        options,
        profile=profile or plot is not None,
        against=against,
        **target_options(target),
    )
    if plot:
        charts.plot_roofline(result, plot)
    if json:
        return print_json(result.as_dict())
    measurement.show(result)
    if plot:
        print(f"roofline     {plot}")
