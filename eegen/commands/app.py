"""The `eegen` command: the command files of this folder as one command line, and what is printed on errors."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from eegen import __version__, status
from eegen.commands.shared.options import print_help
from eegen.commands.shared.printing import print_note
from eegen.errors import EegenError

ABOUT = "A compiler from a model configuration to one C file that trains and samples that model, and nothing else."
ORDER = ("train", "sample", "eval", "build", "inspect", "bench", "tune", "ladder", "doctor")  # in help
EXAMPLES = ("eegen train", "eegen train --time 10 --save names.safetensors", "eegen sample names.safetensors")


def command_names() -> list[str]:
    """The other files of this folder, each with a function of its name."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    names = [module.name for module in modules if not module.ispkg and module.name != "app"]
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def make_app(names: Sequence[str]) -> typer.Typer:
    """The command line with these commands."""
    app = typer.Typer(
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help=ABOUT,
    )
    app.callback(invoke_without_command=True)(eegen)
    for name in names:
        app.command(name)(getattr(importlib.import_module(f"eegen.commands.{name}"), name))
    return app


def _print_version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


def _print_help(context: typer.Context, value: bool) -> None:
    if value:
        print_help(context, EXAMPLES)
        raise typer.Exit


def eegen(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", metavar="", is_eager=True, callback=_print_version, help="Print the version."),
    ] = False,
    help: Annotated[
        bool,
        typer.Option("--help", "-h", metavar="", is_eager=True, callback=_print_help, help="Print this help."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print_help(context, EXAMPLES)


def main() -> None:
    """The `eegen` command: every failure is one line on stderr and an exit code."""
    if sys.stderr.isatty():
        status.listeners.append(print_note)
    names = command_names()
    named = [name for name in names if sys.argv[1:2] == [name]]  # the others need not be imported
    try:
        code = make_app(named or names)(prog_name="eegen", standalone_mode=False) or 0
        if code == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except EegenError as error:
        code = fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader is gone: writing at exit must not fail again
        code = 1
    except OSError as error:
        code = fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except Exception as error:
        # A usage error of typer's, in whichever module its version keeps the class.
        if not hasattr(error, "format_message"):
            raise
        message = " ".join(error.format_message().split()).rstrip(".")
        code = fail(f"{message}; see {command_of(error)} --help", 2)
    sys.exit(code)


def command_of(error: Any) -> str:
    """The command that a usage error is about, as typed."""
    return str(error.ctx.command_path) if getattr(error, "ctx", None) else "eegen"


def fail(text: str, code: int) -> int:
    """Print a failure; return its exit code."""
    print_note(text)
    return code
