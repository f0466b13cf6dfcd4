"""`eegen tune`: find the fastest register tiles of a model on this machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from eegen.commands.options import MODEL, TARGET, TRAINING, Json, command, panel
from eegen.commands.printing import print_json
from eegen.commands.values import checked_options, model_configuration, target_options
from eegen.options import Given
from eegen.train.option_table import DATA


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
        return print_json({"forgotten": len(gone)}) if json else print(f"forgot {len(gone)} files of measured tiles")
    documents = load_documents(general.get("data"))
    chars = vocabulary(documents)
    outcome = search.tune(
        model_configuration(model, chars),
        documents,
        chars,
        checked_options(general),
        say=lambda what: print(what, file=sys.stderr),
        **target_options(target),
    )
    if json:
        print_json(outcome.as_dict())
    else:
        search.show(outcome)
    if outcome.interrupted:
        raise typer.Exit(130)
