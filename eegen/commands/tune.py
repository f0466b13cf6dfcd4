"""`eegen tune`: find the fastest register tiles of a model on this machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from eegen.commands.shared.options import MODEL, TARGET, TRAINING, Json, command, panel
from eegen.commands.shared.printing import format_count, print_json, print_text
from eegen.commands.shared.values import checked_options, model_configuration, target_options
from eegen.options import Given
from eegen.train.option_table import DATA

if TYPE_CHECKING:
    from eegen.measure.tune import Outcome
    from eegen.targets.tiles import Choice


@command(
    MODEL,
    TARGET,
    panel(
        DATA,
        TRAINING.options["batch"],
        replace(TRAINING.options["time"], help="Seconds to search, about.", default_text="60"),
    ),
    examples=("eegen tune --d-model 64 --time 120", "eegen tune --reset"),
)
def tune(
    model: Given,
    target: Given,
    general: Given,
    reset: Annotated[
        bool, typer.Option("--reset", metavar="", help="Delete all measured tiles and do not search.")
    ] = False,
    json: Json = False,
) -> None:
    """Find the fastest register tiles of a model on this machine; later builds use them."""
    from eegen.measure import tune as search
    from eegen.run.data import load_documents, vocabulary
    from eegen.toolchain import measured_tiles

    if reset:
        gone = measured_tiles.forget()
        return (
            print_json({"forgotten": len(gone)})
            if json
            else print(f"deleted {format_count(len(gone), 'file')} of measured tiles")
        )
    documents = load_documents(general.get("data"))
    chars = vocabulary(documents)
    outcome = search.tune(
        model_configuration(model, chars),
        documents,
        chars,
        checked_options(general),
        report=lambda what: print(what, file=sys.stderr),
        **target_options(target),
    )
    if json:
        print_json(outcome.as_dict())
    else:
        print_outcome(outcome)
    if outcome.interrupted:
        raise typer.Exit(130)


def print_outcome(outcome: Outcome) -> None:
    print(f"{outcome.name}: {format_count(outcome.builds, 'build')} in {outcome.seconds:.0f} s")
    width = max(len(s.name) for s in outcome.shapes)
    print(f"{'shape':<{width}}  {'default':>12}  {'best':>12}  {'µs':>8}  {'gain':>5}  tried")
    for s in outcome.shapes:
        best = format_tile(s.best) if s.best != s.default else "the same"
        print(f"{s.name:<{width}}  {format_tile(s.default):>12}  {best:>12}  {s.us:8.2f}  {s.gain:5.2f}  {s.count:5}")
    print_text(
        "Shapes: a product is vectors of a row of the result x inner size, an outer is rows x vectors of the gradient."
    )
    print_text("Tiles: rows x vectors, then the unroll factor. µs: all kernels of the shape in a step, at the default.")
    if outcome.tuned_us:
        print(f"a step: {outcome.default_us:.1f} µs with the defaults, {outcome.tuned_us:.1f} µs with the best")
    if outcome.kept:
        print_text(f"kept for later builds: {outcome.kept}")
    else:
        print("nothing is kept: the defaults are as fast")


def format_tile(choice: Choice) -> str:
    rows, vectors, unroll = choice
    return f"{rows} x {vectors}, {unroll}"
