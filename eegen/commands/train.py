"""`eegen train`: train a model, print its loss, its speed and a few samples."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from eegen.commands.shared.options import FILES, MODEL, TARGET, TRAINING, Emulate, Json, command
from eegen.commands.shared.printing import format_count, json_number, print_fields, print_json, print_note, print_text
from eegen.commands.shared.values import checked_options, fixed_options, target_options, training_options
from eegen.errors import EegenError
from eegen.options import Given, flag

if TYPE_CHECKING:
    from eegen.model import Model, Run


@command(
    TRAINING,
    FILES,
    MODEL,
    TARGET,
    first=("data", "steps", "time", "save", "val"),
    examples=(
        "eegen train --steps 2000 --save names.safetensors",
        "eegen train --data words.txt --time 10 --val 0.1 --d-model 64",
    ),
)
def train(
    training: Given,
    files: Given,
    model: Given,
    target: Given,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="Options that were found to work best: auto, none, 1s, 10s, 60s or a TOML file; options given here "
            "override them. \\[default: auto with --time, else none]",
            show_default=False,
        ),
    ] = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", metavar="", help="Print all options of the run as TOML; do not train.")
    ] = False,
    emulate: Emulate = False,
    json: Json = False,
) -> None:
    """Train a model; print its loss, its speed and ten samples, and keep it with --save."""
    from eegen.commands.shared.progress import Progress
    from eegen.train import recipes

    chosen = recipes.choose_recipe(recipe, model, training, from_checkpoint="init" in files or "resume" in files)
    if chosen:
        model, training = chosen.with_given(model, training)
    if show_recipe:
        tables = recipes.all_options(model, checked_options(training))
        if json:
            return print_json({"recipe": chosen.name if chosen else None, **tables})
        return print(recipes.format_toml(chosen, tables))
    with open_model(model, target, training, files, emulate) as ready:
        name = ready.compiled.plan.build.name
        about = f"{name}: {ready.params:,} parameters, {format_count(len(ready.documents), 'document')}"
        about += f", recipe {chosen.name}" if chosen else ""
        print(about, file=sys.stderr) if json else print_text(about)
        progress = Progress()
        try:
            run = ready.train(
                **training_options(training),
                resume="resume" in files,
                save=files.get("save"),
                log=files.get("log"),
                on_chunk=progress,
            )
        finally:
            progress.close()
        interrupted = run.stopped == "interrupted"
        samples = [] if interrupted else ready.sample(10, seed=ready.options.seed)
    if json:
        print_json(as_json(run, ready, samples))
    else:
        print_run(run, samples)
    if run.stopped == "done" and "until_loss" in training:
        print_note(f"the loss did not come down to {training['until_loss']:g}")
    if interrupted:
        kept = f"the checkpoint is in {run.checkpoint}" if run.checkpoint else "nothing is kept without --save"
        print_note(f"interrupted after step {run.steps:,}; {kept}")
        sys.exit(130)


def as_json(run: Run, model: Model, samples: list[str]) -> Given:
    """A training run under the names that scripts rely on."""
    return {
        "steps": run.steps,
        "loss": json_number(run.mean_loss),
        "val_loss": run.val_loss,
        "seconds": run.seconds,
        "us_per_step": run.us_per_step,
        "breakdown_us": run.breakdown_us,
        "params": model.params,
        "target": model.target,
        "checkpoint": str(run.checkpoint) if run.checkpoint else None,
        "samples": samples,
    }


def print_run(run: Run, samples: list[str]) -> None:
    parts = ", ".join(f"{name} {us:.1f}" for name, us in run.breakdown_us.items())
    fields = [("loss", f"{run.mean_loss:.4f}, the mean of the last {min(100, run.steps)} of {run.steps:,} steps")]
    if run.val_loss is not None:
        fields += [("validation", f"{run.val_loss:.4f}, over every held-out document")]
    fields += [("speed", f"{run.us_per_step:.1f} µs a step ({parts}), {run.seconds:.2f} s in all")]
    if samples:
        fields += [("checkpoint", str(run.checkpoint or "none; --save FILE keeps the model"))]
        fields += [("samples", " ".join(samples))]
    print_fields(fields, label=12)


def open_model(model: Given, target: Given, training: Given, files: Given, emulate: bool) -> Model:
    """The compiled model to train, new or from a checkpoint. Options are checked before anything is compiled."""
    from eegen.model import Model
    from eegen.run import checkpoint

    if "resume" not in files:
        checked_options(training)
    if "init" in files and "resume" in files:
        raise EegenError("--init and --resume contradict each other: give one of them")
    if "save" in files:
        checkpoint.check_destination(files["save"])
    common: Given = {
        "data": training.get("data"),
        **target_options(target),
        "emulate": emulate,
        **fixed_options(training),
    }
    path = files.get("resume") or files.get("init")
    if path is None:
        return Model(**model, **common)
    kept = checkpoint.load(path)
    for name, value in model.items():
        if (has := kept.config.get(name)) != value:
            raise EegenError(f"{flag(name)} {value} does not fit {path}, which has {has}")
    if "init" in files:
        return Model.of_checkpoint(kept, **common, weights_only=True)
    before = kept.training.get("options", {})
    for name in ("seed", "optimizer", "val"):
        if name in training and training[name] != before.get(name):
            raise EegenError(f"--{name} {training[name]} does not fit {path}, whose run has {before.get(name)}")
    ready = Model.of_checkpoint(kept, **common)
    if not ready.same_data:
        print_note(f"note: the data is not what {path} was trained on")
    return ready
