"""The options of the command line: groups of them, and the decorator that makes a function a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from eegen.errors import EegenError, EegenFailure
from eegen.models.config import option_table
from eegen.options import Group, Option, flag, group, read_options
from eegen.targets import TARGETS
from eegen.train.option_table import TRAIN

SVL_BITS = TARGETS["sme2"].vector_lengths


@dataclass(frozen=True)
class Panel:
    """Options that belong together, and the title over them in help."""

    title: str | None
    options: Group


MODEL = Panel("Model", option_table())
TARGET = Panel(
    "Target and compiler",
    group(
        [
            Option(
                "target",
                str,
                help=f"Instruction set: {', '.join(TARGETS)}.",
                choices=("auto", *TARGETS),
                default_text="auto, the best that this machine has",
            ),
            Option("sme2", bool, help="The same as --target sme2."),
            Option(
                "svl_bits",
                int,
                help=f"Bits of a vector of rvv, a streaming vector of sme2: {', '.join(map(str, SVL_BITS))}.",
                default_text="256 on rvv, 512 on sme2",
                metavar="BITS",
            ),
            Option("cc", str, help="Compiler.", default_text="EEGEN_CC, or the newest clang", metavar="CLANG"),
        ]
    ),
)
TRAINING = Panel("Training", TRAIN)
FILES = Panel(
    "Checkpoints and log",
    group(
        [
            Option("save", Path, help="Checkpoint to write at the end, and every minute until then.", metavar="CKPT"),
            Option("init", Path, help="Checkpoint whose weights to start from.", metavar="CKPT"),
            Option("resume", Path, help="Checkpoint of an unfinished run to continue.", metavar="CKPT"),
            Option("log", Path, help="Log with a JSON line for each step: step, loss, lr.", metavar="FILE.jsonl"),
        ]
    ),
)
CONFIG = Option(
    "config", Path, help="TOML file with values for the options that are not given here.", metavar="FILE.toml"
)

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object; notes go to stderr.")]
Emulate = Annotated[
    bool, typer.Option("--emulate", metavar="", help="Run a target that this machine does not have, in QEMU.")
]
CheckpointFile = Annotated[Path, typer.Argument(metavar="CKPT", show_default=False, help="File that --save wrote.")]


def panel(*options: Option) -> Panel:
    """Options of one command, under the general heading."""
    return Panel(None, group(options))


def command(
    *panels: Panel, first: Sequence[str] = (), examples: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command with the options of `panels`, which it gets as one dict for each panel.

    A dict holds the options that were given, on the command line or in the file of --config. Help begins with the
    options named in `first`, then has the function's own, then the panels, then the examples.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[len(panels) :]
        options = {name: option for each in panels for name, option in each.options.items()}
        titles = {name: each.title for each in panels for name in each.options}
        if MODEL in panels:
            options["config"], titles["config"] = CONFIG, None
        flags = {**{p.name: flag(p.name) for p in own}, **{name: option.flag for name, option in options.items()}}

        @functools.wraps(function)
        def run(**values: Any) -> None:
            values.pop("help")
            with errors_in_words_of(flags):
                texts = {name: values.pop(name) for name in options}
                texts = {name: text for name, text in texts.items() if text is not None and text is not False}
                given = {name: options[name].parse(text) for name, text in texts.items()}
                if path := given.pop("config", None):
                    kept, _ = read_options(path, {name: o for name, o in options.items() if name != "config"})
                    given = {**{name: value for name, value in kept.items() if value is not False}, **given}
                function(*({name: given[name] for name in each.options if name in given} for each in panels), **values)

        general = [*first, *(name for name, title in titles.items() if title is None and name not in first)]
        rest = [name for name in options if name not in general]
        parameters = [
            *(_parameter(options[name], None) for name in first),
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != "json"),
            *(_parameter(options[name], None) for name in general if name not in first),
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name == "json"),
            _help_parameter(examples),
            *(_parameter(options[name], titles[name]) for name in rest),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        del run.__wrapped__
        return run

    return decorate


@contextmanager
def errors_in_words_of(flags: Mapping[str, str]) -> Iterator[None]:
    """Errors name options by the flags of the command, and give no advice about options it does not have."""
    try:
        yield
    except MemoryError:
        failure = EegenFailure("out of memory", d_model=": choose a smaller model", batch=" or `batch`")
        raise EegenFailure(failure.for_command(flags)) from None
    except EegenError as error:
        raise type(error)(error.for_command(flags)) from None


def _parameter(option: Option, title: str | None) -> inspect.Parameter:
    """An option as typer takes it. Values stay text until `Option.parse`, whose messages are those of the project."""
    choices = option.choices
    info = typer.Option(
        *(option.flags or (option.flag,)),
        help=_plain(option.help_text),
        metavar="" if option.type is bool else option.placeholder,
        rich_help_panel=title,
        show_default=False,
        autocompletion=(lambda: list(choices)) if choices else None,
    )
    kind: Any = bool if option.type is bool else str | None
    default = False if option.type is bool else None
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _help_parameter(examples: Sequence[str]) -> inspect.Parameter:
    def show(context: typer.Context, value: bool) -> None:
        if value:
            print_help(context, examples)
            raise typer.Exit

    info = typer.Option("--help", "-h", metavar="", is_eager=True, callback=show, help="Print this help.")
    return inspect.Parameter("help", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, info])


def print_help(context: typer.Context, examples: Sequence[str]) -> None:
    print(context.get_help().rstrip())
    if examples:
        print(" Examples:\n" + "\n".join(f"   {example}" for example in examples) + "\n")


def _plain(text: str) -> str:
    """Brackets are markup to rich."""
    return text.replace("[", r"\[")
