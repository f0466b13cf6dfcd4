"""`eegen build`: write the C of a model and what the compiler makes of it into a folder."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eegen.commands.shared.options import MODEL, TARGET, TRAINING, Json, command, panel
from eegen.commands.shared.printing import print_fields, print_json
from eegen.commands.shared.values import model_configuration, target_options
from eegen.errors import EegenError, EegenFailure
from eegen.options import Given
from eegen.train.option_table import DATA

if TYPE_CHECKING:
    from eegen.models.config import ModelConfig
    from eegen.run.model_builds import Compiled
    from eegen.toolchain.compiler_flags import Kind


@command(
    MODEL,
    TARGET,
    panel(DATA, TRAINING.options["optimizer"]),
    examples=("eegen build --d-model 64", "eegen build --standalone --out program"),
)
def build(
    model: Given,
    target: Given,
    general: Given,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")] = Path("generated"),
    standalone: Annotated[
        bool, typer.Option("--standalone", metavar="", help="Write a whole program, with a main, in one C file.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the C of a model and compile it."""
    from eegen.run.data import load_documents, vocabulary

    chars = vocabulary(load_documents(general.get("data")))
    config = model_configuration(model, chars)
    built = build_into(out, config, chars, **target_options(target), **general, standalone=standalone)
    if json:
        return print_json(asdict(built))
    print_fields(
        [
            ("target", f"{built.target}{f', not for this machine ({built.foreign})' if built.foreign else ''}"),
            ("parameters", f"{built.params:,}"),
            ("C", f"{built.source}, {built.lines:,} lines"),
            (built.kind, built.binary),
            ("compiled in", f"{built.seconds:.1f} s by {built.compiler}{', earlier' if built.cached else ''}"),
            ("next", built.next),
        ],
        label=12,
    )


@dataclass(frozen=True)
class Built:
    """The files of a build. `foreign` says why this machine cannot run it, if it cannot."""

    name: str
    target: str
    params: int
    lines: int
    seconds: float  # of the compiler, in this run or in the one that filled the cache
    cached: bool
    kind: str
    source: str
    binary: str
    compiler: str
    foreign: str | None
    next: str


def build_into(
    folder: Path,
    config: ModelConfig,
    chars: str,
    target: str = "auto",
    svl_bits: int | None = None,
    cc: str | None = None,
    optimizer: str = "adam",
    standalone: bool = False,
    data: Path | None = None,
) -> Built:
    """Write the C and its library into `folder`: with `standalone` a program, for a foreign target an object."""
    from eegen.run.model_builds import compile_model, pick_target
    from eegen.targets import runs_here

    foreign = runs_here(pick_target(target))
    kind: Kind = "program" if standalone else "object" if foreign else "library"
    compiled = compile_model(config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind=kind, chars=chars)
    made = compiled.build
    source, binary = folder / made.source_path.name, folder / made.path.name
    copy_whole(made.source_path, source)
    copy_whole(made.path, binary)
    return Built(
        name=source.stem,
        target=compiled.plan.target.name,
        params=compiled.plan.count,
        lines=made.source_path.read_text(encoding="utf-8").count("\n"),
        seconds=made.seconds,
        cached=made.cached,
        kind=kind,
        source=str(source),
        binary=str(binary),
        compiler=made.compiler,
        foreign=foreign,
        next=next_command(compiled, kind, foreign, binary, data),
    )


def next_command(compiled: Compiled, kind: str, foreign: str | None, binary: Path, data: Path | None) -> str:
    """A command that uses what was built."""
    from eegen.run.sources import build_command
    from eegen.targets import best_target
    from eegen.toolchain.emulators import emulator

    target = compiled.plan.target
    more = ["--data", str(data)] if data else []
    if kind == "program":
        program = str(binary) if binary.parent != Path() else f"./{binary}"
        try:
            return shlex.join([*emulator(target), program, *more, "--steps", "20" if foreign else "1000"])
        except EegenError:
            return shlex.join([program, *more, "--steps", "1000"])
    words = shlex.split(build_command(compiled.plan.build))
    if foreign:
        words[1:2] = ["train", "--emulate", "--steps", "20"] if target.emulated_cpu else ["inspect"]
    else:
        words[1] = "train"
        if target == best_target():
            at = words.index("--target")
            del words[at : at + 2]
    return shlex.join([*words, *more])


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file in one step: a reader sees the old file or the whole new one."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, beside)
            mode = stat.S_IMODE(source.stat().st_mode)
            beside.chmod(mode | (mode & 0o444) >> 2 if mode & 0o100 else mode)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise EegenFailure(f"cannot write {target}: {error.strerror or error}") from None
