"""The commands: parse, call, print. What they do is elsewhere."""

from __future__ import annotations

import json as json_format
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eegen import __version__
from eegen import status as notes
from eegen.commands.options import DATA, FILES, MODEL, SAMPLE, TARGET, TRAIN, Given, Group, takes
from eegen.defaults import flag
from eegen.errors import EegenError

if TYPE_CHECKING:
    from eegen.model import Model, Run
    from eegen.models.config import ModelConfig
    from eegen.train.options import TrainOptions

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A compiler from a model configuration to one C file that trains and samples that model, and nothing else.",
    epilog="Start with: eegen train",
)

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object on stdout, all else on stderr.")]
CheckpointFile = Annotated[Path, typer.Argument(metavar="CKPT", show_default=False, help="A file that --save wrote.")]

DATASET: Group = {"data": DATA}
LADDER: Group = {"data": DATA, "seed": TRAIN["seed"]}
TUNE: Group = {
    "data": DATA,
    "batch": TRAIN["batch"],
    "time": replace(TRAIN["time"], help="For how long, about. [default: 60]"),
}
BUILD: Group = {"data": DATA, "optimizer": TRAIN["optimizer"]}


def main() -> None:
    """The `eegen` command: every failure is one line on stderr and an exit code."""
    if sys.stderr.isatty():
        notes.listeners.append(lambda what: print(f"eegen: {what}", file=sys.stderr))
    try:
        code = app(prog_name="eegen", standalone_mode=False) or 0
        if code == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except EegenError as error:
        code = complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = complain("interrupted", 130)
    except MemoryError:
        code = complain("out of memory: choose a smaller model or --batch", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read this has enough; nothing more may fail at exit
        code = 1
    except OSError as error:
        code = complain(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except Exception as error:
        # A usage error of typer's, whatever module its version keeps the class in.
        if not hasattr(error, "format_message"):
            raise
        code = complain(f"{' '.join(error.format_message().split()).rstrip('.')}; see {called(error)} --help", 2)
    sys.exit(code)


def called(error: Any) -> str:
    """The command that a usage error is about, as typed."""
    return str(error.ctx.command_path) if getattr(error, "ctx", None) else "eegen"


def complain(what: str, code: int) -> int:
    print(f"eegen: {what}", file=sys.stderr)
    return code


@app.callback(invoke_without_command=True)
def eegen(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
@takes(MODEL, TARGET, BUILD)
def build(
    model: Given,
    target: Given,
    more: Given,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to.")] = Path("generated"),
    standalone: Annotated[
        bool, typer.Option("--standalone", metavar="", help="A whole program, with a main, in one C file.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the C of a model and compile it."""
    from eegen.commands.building import build_into
    from eegen.run.data import load_documents, vocabulary

    chars = vocabulary(load_documents(more.get("data")))
    made = build_into(out, configuration(model, chars), chars, **target_of(target), **more, standalone=standalone)
    if json:
        return show_json(made.as_dict())
    print(f"target      {made.target}{f', not for this machine ({made.foreign})' if made.foreign else ''}")
    print(f"parameters  {made.params:,}")
    print(f"C           {made.source}, {made.lines:,} lines")
    print(f"{made.kind:<11} {made.binary}")
    print(f"compiled in {made.seconds:.1f} s by {made.compiler}{', earlier' if made.cached else ''}")
    print(f"next        {made.next}")


@app.command()
@takes(MODEL, TARGET, TRAIN, FILES)
def train(
    model: Given,
    target: Given,
    train: Given,
    files: Given,
    emulate: Annotated[
        bool, typer.Option("--emulate", metavar="", help="Run a target this machine lacks, in QEMU.")
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Options found to be the best: auto, none, 1s, 10s, 60s or a TOML file; options given are stronger. "
            "(default: auto with --time, else none)",
            show_default=False,
        ),
    ] = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", metavar="", help="Print the options that would be trained with.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a model: ten names it made up, its loss, its speed, and a checkpoint with --save."""
    from eegen.commands.progress import Progress
    from eegen.train import recipes

    chosen = recipes.choose(recipe, model, train, started="init" in files or "resume" in files)
    if chosen:
        model, train = chosen.with_flags(model, train)
    if show_recipe:
        tables = recipes.settings(model, checked_options(train))
        if json:
            return show_json({"recipe": chosen.name if chosen else None, **tables})
        return print(recipes.as_toml(chosen, tables))
    with prepare(model, target, train, files, emulate) as ready:
        name = ready.compiled.plan.build.name
        about = f"{name}: {ready.params:,} parameters, {documents(len(ready.documents))}"
        about += f", recipe {chosen.name}" if chosen else ""
        print(about, file=sys.stderr if json else sys.stdout)
        progress = Progress()
        try:
            run = ready.train(
                **training_options(train),
                resume="resume" in files,
                save=files.get("save"),
                log=files.get("log"),
                on_chunk=progress,
            )
        finally:
            progress.close()
        stopped = run.stopped == "interrupted"
        samples = [] if stopped else ready.sample(10, seed=ready.options.seed)
    if json:
        show_json(as_json(run, ready, samples))
    else:
        show_run(run, samples)
    if run.stopped == "done" and "until_loss" in train:
        print(f"eegen: the loss did not come down to {train['until_loss']:g}", file=sys.stderr)
    if stopped:
        kept = f"the checkpoint is in {run.checkpoint}" if run.checkpoint else "nothing is kept without --save"
        sys.exit(complain(f"interrupted after step {run.steps:,}; {kept}", 130))


@app.command()
@takes(DATASET, TARGET)
def eval(data: Given, target: Given, checkpoint: CheckpointFile, json: Json = False) -> None:
    """The exact loss of a checkpoint over every document: of the data it was trained on, or of --data."""
    from eegen.model import load

    model = load(checkpoint, data=data.get("data"), **target_of(target))
    loss = model.evaluate()
    if json:
        return show_json({"loss": loss, "documents": len(model.documents), "checkpoint": str(checkpoint)})
    print(f"loss {loss:.6f} over {documents(len(model.documents))}")


@app.command()
@takes(SAMPLE, TARGET)
def sample(how: Given, target: Given, checkpoint: CheckpointFile, json: Json = False) -> None:
    """New documents from a checkpoint."""
    from eegen.model import load
    from eegen.run.inference import Sampling

    chosen = Sampling(**how)
    made = load(checkpoint, **target_of(target)).sample(**asdict(chosen))
    if json:
        return show_json({"samples": made, **asdict(chosen), "checkpoint": str(checkpoint)})
    print("\n".join(made))


@app.command()
@takes(MODEL, TARGET, BUILD)
def inspect(
    model: Given,
    target: Given,
    more: Given,
    kernel: Annotated[str, typer.Option(metavar="NAME", help="Show this section of the C.", show_default=False)] = "",
    asm: Annotated[bool, typer.Option("--asm", metavar="", help="Show what the compiler made of it.")] = False,
    json: Json = False,
) -> None:
    """The kernels of a model: shapes, tiles, FLOPs, bytes, instructions; and the C of each."""
    from eegen.measure import inspect as inspection
    from eegen.run.data import load_documents, vocabulary

    config = configuration(model, vocabulary(load_documents(more.pop("data", None))))
    report = inspection.inspect(config, **target_of(target), **more)
    if json:
        return show_json(report.as_dict())
    inspection.show(report, kernel, asm)


@app.command()
@takes(MODEL, TARGET, TRAIN)
def bench(
    model: Given,
    target: Given,
    train: Given,
    profile: Annotated[bool, typer.Option("--profile", metavar="", help="Show each kernel's time and speed.")] = False,
    against: Annotated[
        list[str], typer.Option(metavar="NAME", help="Time the same model in torch or jax too.", show_default=False)
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw a roofline of the kernels.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """How long a training step takes, beside what this machine's core could do. --time says how long to measure."""
    from eegen.measure import bench as stopwatch
    from eegen.run.data import load_documents, vocabulary

    documents = load_documents(train.get("data"))
    chars = vocabulary(documents)
    options = checked_options(train)
    if plot:
        from eegen.measure import charts

        charts.check(plot)
    result = stopwatch.bench(
        configuration(model, chars),
        documents,
        chars,
        options,
        profile=profile or plot is not None,
        against=against,
        **target_of(target),
    )
    if plot:
        charts.roofline(result, plot)
    if json:
        return show_json(result.as_dict())
    stopwatch.show(result)
    if plot:
        print(f"roofline     {plot}")


@app.command()
@takes(LADDER, TARGET)
def ladder(
    how: Given,
    target: Given,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the losses of all steps.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Six models, each with one idea more, from counted pairs of characters to a GPT: what every idea buys."""
    from eegen.measure import ladder as six

    if plot:
        from eegen.measure import charts

        charts.check(plot)
    climbed = six.climb(**how, **target_of(target), on_step=lambda n, r: None if json else print(six.row(n, r)))
    if plot:
        six.plot(climbed, plot)
    if json:
        return show_json(climbed.as_dict())
    print(f"\n{six.chart(climbed.results)}\n\n{six.summary(climbed)}")
    if plot:
        print(f"chart in {plot}")


@app.command()
@takes(MODEL, TARGET, TUNE)
def tune(
    model: Given,
    target: Given,
    how: Given,
    reset: Annotated[bool, typer.Option("--reset", metavar="", help="Forget all tiles found so far.")] = False,
    json: Json = False,
) -> None:
    """Find the fastest register tiles of a model on this machine; later builds use them."""
    from eegen.measure import tune as tuner
    from eegen.run.data import load_documents, vocabulary
    from eegen.toolchain import measured_tiles as tuned

    if reset:
        gone = tuned.forget()
        return show_json({"forgotten": len(gone)}) if json else print(f"forgot {len(gone)} files of measured tiles")
    documents = load_documents(how.get("data"))
    chars = vocabulary(documents)
    outcome = tuner.tune(
        configuration(model, chars),
        documents,
        chars,
        checked_options(how),
        say=lambda what: print(what, file=sys.stderr),
        **target_of(target),
    )
    if json:
        show_json(outcome.as_dict())
    else:
        tuner.show(outcome)
    if outcome.interrupted:
        raise typer.Exit(130)


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", metavar="", help="Install what is missing, where that is allowed.")
    ] = False,
    cc: Annotated[str, typer.Option(metavar="CLANG", help="The compiler to judge.", show_default=False)] = "",
    json: Json = False,
) -> None:
    """What this machine has of what eegen can use, and how to get the rest."""
    from eegen.toolchain import doctor as surgery

    actions = surgery.fix(lambda line: print(f"$ {line}", file=sys.stderr), cc or None) if fix else []
    findings = surgery.findings(cc or None)
    if json:
        show_json({"findings": [asdict(f) for f in findings], "actions": [asdict(a) for a in actions]})
    else:
        for action in actions:
            if not action.ok:
                print(f"failed      {action.command}\n{action.output}")
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.state:<8} {finding.name:<{width}}  {finding.detail}")
            if finding.fix_command:
                print(f"{'':8} {'':{width}}  fix: {finding.fix_command}")
    if findings[0].state == "missing":
        raise typer.Exit(1)


# --- from options to objects


def configuration(model: Given, chars: str) -> ModelConfig:
    from eegen.models.config import model_config

    return model_config(**{**model, "vocab_size": len(chars) + 1})


def target_of(given: Given) -> Given:
    """The target options as `eegen.compile` takes them."""
    chosen = dict(given)
    if chosen.pop("sme2", False):
        if chosen.get("target", "sme2") != "sme2":
            raise EegenError(f"--sme2 and --target {chosen['target']} contradict each other")
        chosen["target"] = "sme2"
    return chosen


def training_options(given: Given) -> Given:
    """The training options as `Model.train` takes them."""
    chosen = {name: value for name, value in given.items() if name not in ("data", "seed", "optimizer", "no_sharing")}
    return {**chosen, "sharing": False} if "no_sharing" in given else chosen


def checked_options(given: Given) -> TrainOptions:
    """The training options as a whole, each in its range."""
    from eegen.train.options import train_options

    return train_options(**{"optimizer": "adam", **fixed(given), **training_options(given)})


def fixed(given: Given) -> Given:
    """The training options that a model has from the start."""
    return {name: given[name] for name in ("seed", "optimizer") if name in given}


def prepare(model: Given, target: Given, train: Given, files: Given, emulate: bool) -> Model:
    """The model to train, compiled. What can be wrong is looked at before the compiler is asked."""
    from eegen.model import Model
    from eegen.run import checkpoint

    if "resume" not in files:
        checked_options(train)
    if "init" in files and "resume" in files:
        raise EegenError("--init and --resume contradict each other: give one of them")
    if "save" in files:
        checkpoint.check_destination(files["save"])
    common: Given = {"data": train.get("data"), **target_of(target), "emulate": emulate, **fixed(train)}
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
        if name in train and train[name] != before.get(name):
            raise EegenError(f"--{name} {train[name]} does not fit {path}, whose run has {before.get(name)}")
    ready = Model.of_checkpoint(kept, **common)
    if not ready.same_data:
        print(f"eegen: note: the data is not what {path} was trained on", file=sys.stderr)
    return ready


# --- printing


def as_json(run: Run, model: Model, samples: list[str]) -> Given:
    """A training run under the names that scripts rely on."""
    return {
        "steps": run.steps,
        "loss": number(run.mean_loss),
        "val_loss": run.val_loss,
        "seconds": run.seconds,
        "us_per_step": run.us_per_step,
        "breakdown_us": run.breakdown_us,
        "params": model.params,
        "target": model.target,
        "checkpoint": str(run.checkpoint) if run.checkpoint else None,
        "samples": samples,
    }


def show_run(run: Run, samples: list[str]) -> None:
    parts = ", ".join(f"{name} {us:.1f}" for name, us in run.breakdown_us.items())
    print(f"loss        {run.mean_loss:.4f}, the mean of the last {min(100, run.steps)} of {run.steps:,} steps")
    if run.val_loss is not None:
        print(f"validation  {run.val_loss:.4f}, over every held-out document")
    print(f"speed       {run.us_per_step:.1f} µs a step ({parts}), {run.seconds:.2f} s in all")
    if samples:
        print(f"checkpoint  {run.checkpoint or 'none; --save FILE keeps the model'}")
        print(f"samples     {' '.join(samples)}")


def show_json(value: Given) -> None:
    print(json_format.dumps(value, ensure_ascii=False))


def documents(n: int) -> str:
    return f"{n:,} document{'s' if n != 1 else ''}"


def number(x: float) -> float | None:
    """JSON knows no NaN."""
    return x if x == x else None
