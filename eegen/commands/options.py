"""The options of the command line: each once, in groups that commands take whole, and from a TOML file as well."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from eegen.defaults import ORDERS, TRAIN_DEFAULTS, flag
from eegen.errors import EegenError
from eegen.language.optimizers import OPTIMIZERS, How
from eegen.models.config import ACTIVATIONS, MODEL_OPTIONS
from eegen.plan.build_config import SVL_BITS
from eegen.targets import TARGETS
from eegen.train.schedules import SCHEDULES


@dataclass(frozen=True)
class Option:
    """One option: its type, what --help says, further spellings. All are None (flags False) unless given."""

    type: Any
    help: str
    names: tuple[str, ...] = ()
    metavar: str | None = None


Group = dict[str, Option]
Given = dict[str, Any]

MODEL: Group = {
    "model": Option(str, f"Which model: {', '.join(MODEL_OPTIONS)}. [default: gpt]", metavar="NAME"),
    "d_model": Option(int, "Width. [default: 16]", metavar="N"),
    "n_heads": Option(int, "Attention heads; they divide the width. [default: 4]", metavar="N"),
    "n_layers": Option(int, "Layers. [default: 1]", metavar="N"),
    "d_ff": Option(int, "Width of the MLP. [default: 4 x width]", metavar="N"),
    "block_size": Option(int, "Positions of a document, at most. [default: 16]", metavar="N"),
    "activation": Option(str, f"Of the MLP: {' or '.join(ACTIVATIONS)}. [default: relu]", metavar="NAME"),
    "norm_gains": Option(bool, "Learnable gains in the norms."),
    "final_norm": Option(bool, "A norm before the head."),
    "tie_embeddings": Option(bool, "The head is the token embedding."),
    "d_state": Option(int, "State of the recurrent models. [default: 32]", metavar="N"),
    "top_k": Option(int, "Entries that rnn-sparse feeds back. [default: 16]", metavar="N"),
    "context": Option(int, "Characters that mlp sees. [default: 3]", metavar="N"),
    "d_embed": Option(int, "Embedding of mlp. [default: 10]", metavar="N"),
    "d_hidden": Option(int, "Hidden layer of mlp. [default: 64]", metavar="N"),
    "config": Option(Path, "Options from a TOML file, for those not given here.", metavar="FILE.toml"),
}

TARGET: Group = {
    "target": Option(str, f"Instruction set: {', '.join(TARGETS)}. [default: auto, the best here]", metavar="NAME"),
    "sme2": Option(bool, "Short for --target sme2."),
    "svl_bits": Option(int, f"Streaming vectors of sme2: {', '.join(map(str, SVL_BITS))}. [default: 512]", metavar="N"),
    "cc": Option(str, "The compiler. [default: EEGEN_CC, or the newest clang]", metavar="CLANG"),
}

DATA = Option(Path, "One document a line. [default: the bundled names]", metavar="FILE")


def _default(name: str) -> str:
    return f"[default: {TRAIN_DEFAULTS[name]}]"


TRAIN: Group = {
    "data": DATA,
    "steps": Option(int, f"Steps. [default: {TRAIN_DEFAULTS['steps']}, or what --time holds]", metavar="N"),
    "batch": Option(int, f"Documents a step. {_default('batch')}", metavar="N"),
    "lr": Option(
        float, f"Learning rate. [default: {', '.join(f'{o.lr:g} {o.name}' for o in OPTIMIZERS.values())}]", metavar="X"
    ),
    "optimizer": Option(str, f"One of {', '.join(OPTIMIZERS)}. [default: adam]", metavar="NAME"),
    "schedule": Option(str, f"Of the learning rate: {', '.join(SCHEDULES)}. [default: linear]", metavar="NAME"),
    "warmup": Option(float, "Rise of the learning rate: steps, or below 1 a part of the run.", metavar="N"),
    "beta1": Option(
        float, f"Of adam, adamw, muon, lion: how long the mean of gradients is. [default: {How.beta1}]", metavar="X"
    ),
    "beta2": Option(float, f"And that of their squares. [default: {How.beta2}]", metavar="X"),
    "momentum": Option(float, f"Of sgd and muon. [default: {How.momentum}]", metavar="X"),
    "weight_decay": Option(
        float, "Of adamw, lion, muon: what a weight loses a step, times the rate. [default: 0]", metavar="X"
    ),
    "clip": Option(float, "Largest norm of all gradients together. [default: any]", metavar="X"),
    "seed": Option(int, f"Names the run. {_default('seed')}", metavar="N"),
    "order": Option(str, f"Of the documents: {' or '.join(ORDERS)}. {_default('order')}", metavar="NAME"),
    "val": Option(float, "Part of the documents to hold out, for a loss on them at the end.", metavar="FRACTION"),
    "time": Option(float, "Stop after so many seconds; the schedule follows the clock.", metavar="SECONDS"),
    "until_loss": Option(float, "Stop when the mean loss of 100 steps is down to this.", metavar="X"),
    "threads": Option(int, "Threads that run a step together. [default: 1]", metavar="N"),
    "no_sharing": Option(bool, "Equal prefixes do not share a row: slower, for comparison."),
}

FILES: Group = {
    "save": Option(Path, "Checkpoint to write.", metavar="CKPT"),
    "init": Option(Path, "Checkpoint to take the first weights from.", metavar="CKPT"),
    "resume": Option(Path, "Checkpoint to go on from, to the same end as if it had not stopped.", metavar="CKPT"),
    "log": Option(Path, "A JSON line a step: step, loss, lr.", metavar="FILE.jsonl"),
}

SAMPLE: Group = {
    "n": Option(int, "How many. [default: 20]", names=("-n",), metavar="N"),
    "temperature": Option(float, "Below 1 the likely is likelier still. [default: 0.5]", metavar="X"),
    "prefix": Option(str, "What each begins with.", metavar="TEXT"),
    "seed": Option(int, f"Names the samples. {_default('seed')}", metavar="N"),
}

PANELS = ((MODEL, "Model"), (TARGET, "Target"), (TRAIN, "Training"), (FILES, "Files"))


def takes(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of groups: it is called with one dict a group, then with its own arguments.

    A dict holds what was given on the command line or in the file of --config; the rest is absent.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[len(groups) :]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            given: list[Given] = []
            for group in groups:
                texts = {name: values.pop(name) for name in group}
                known = {name: text for name, text in texts.items() if text is not None and text is not False}
                given.append({name: value_of(name, text, group[name]) for name, text in known.items()})
            if any("config" in group for group in groups):
                _add_file(given, groups)
            command(*given, **values)

        taken = []
        for group in groups:
            panel = next((title for known, title in PANELS if known is group), None)
            for name, option in group.items():
                default = False if option.type is bool else None
                kind = inspect.Parameter.KEYWORD_ONLY
                taken.append(
                    inspect.Parameter(name, kind, default=default, annotation=_annotation(name, option, panel))
                )
        arguments = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature([*arguments, *taken])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*arguments, *taken)}
        del run.__wrapped__
        return run

    return wrap


def _annotation(name: str, option: Option, panel: str | None) -> Any:
    """Typer takes all values as text: `value_of` says what is wrong with one in the same words for a file."""
    info = typer.Option(
        *(option.names or (flag(name),)),
        help=option.help.replace("[", "\\["),  # rich would take a bracket for markup
        metavar="" if option.type is bool else option.metavar,
        rich_help_panel=panel,
        show_default=False,
    )
    return Annotated[bool if option.type is bool else str | None, info]


def _add_file(given: list[Given], groups: tuple[Group, ...]) -> None:
    """Options of the file named by --config, which the command line is stronger than."""
    path = next((values.pop("config") for values in given if "config" in values), None)
    if path is None:
        return
    options: Group = {name: option for group in groups for name, option in group.items() if name != "config"}
    for name, value in options_in(path, options)[0].items():
        for values, group in zip(given, groups):
            if name in group and value is not False:
                values.setdefault(name, value)


def options_in(path: Path, options: Group, texts: tuple[str, ...] = ()) -> tuple[Given, dict[str, str]]:
    """The options in a TOML file, at the top or under [model], [target], [train]; and its `texts` beside them."""
    tables = {"model", "target", "train"}
    said: dict[str, str] = {}
    flat: list[tuple[str, Any]] = []
    for key, value in read_toml(path).items():
        if key in texts:
            said[key] = str(value)
        else:
            flat += value.items() if key in tables and isinstance(value, dict) else [(key, value)]
    found: Given = {}
    for key, value in flat:
        name = key.replace("-", "_")
        if name not in options:
            close = difflib.get_close_matches(name, options, 1)
            hint = f"did you mean {close[0]}?" if close else f"the options are {', '.join(options)}"
            raise EegenError(f"{path} has the unknown option {key!r}; {hint}")
        found.setdefault(name, _typed(path, key, value, options[name]))
    return found, said


def read_toml(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        import tomli as tomllib  # type: ignore[no-redef, import-not-found, unused-ignore]
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EegenError(f"configuration {path} does not exist") from None
    except OSError as error:
        raise EegenError(f"configuration {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EegenError(f"configuration {path} is not TOML: {error}") from None


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}


def value_of(name: str, text: str, option: Option) -> Any:
    """The value that the command line gives to an option."""
    try:
        return option.type(text)
    except ValueError:
        spelled = (option.names or (flag(name),))[0]
        raise EegenError(f"{spelled} is {text!r}; it must be {KINDS[option.type]}") from None


def _typed(path: Path, key: str, value: Any, option: Option) -> Any:
    """A TOML value as the type of its option; an integer will do for a float, a path starts beside its file."""
    if option.type is float and type(value) is int:
        value = float(value)
    if option.type is Path and isinstance(value, str):
        return path.parent / value
    if type(value) is not option.type:
        raise EegenError(f"{path}: {key} is {value!r}; it must be {KINDS[option.type]}")
    return value
