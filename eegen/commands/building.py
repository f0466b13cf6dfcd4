"""`eegen build`: the C of a model and what the compiler makes of it, put in a folder to keep."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegen.errors import EegenError, EegenFailure
from eegen.models.config import ModelConfig
from eegen.run.compiled import Compiled, build_command, compile_model, pick_target
from eegen.targets import best_target, runs_here
from eegen.toolchain.emulators import emulator

if TYPE_CHECKING:
    from eegen.toolchain.compiler_flags import Kind


@dataclass(frozen=True)
class Made:
    """What was written. `foreign` says why this machine cannot run it, if it cannot."""

    name: str
    target: str
    params: int
    lines: int
    seconds: float  # that the compiler took, now or when it filled the cache
    cached: bool
    kind: str
    source: str
    binary: str
    compiler: str
    foreign: str | None
    next: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
) -> Made:
    """Write the C and its library into `folder`: a program with `standalone`, an object where neither could run."""
    foreign = runs_here(pick_target(target))
    kind: Kind = "program" if standalone else "object" if foreign else "library"
    compiled = compile_model(config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind=kind, chars=chars)
    made = compiled.build
    source, binary = folder / made.source_path.name, folder / made.path.name
    copy_whole(made.source_path, source)
    copy_whole(made.path, binary)
    name = compiled.plan.target.name
    return Made(
        name=source.stem,
        target=name,
        params=compiled.plan.count,
        lines=made.source_path.read_text(encoding="utf-8").count("\n"),
        seconds=made.seconds,
        cached=made.cached,
        kind=kind,
        source=str(source),
        binary=str(binary),
        compiler=made.command[0],
        foreign=foreign,
        next=_next(compiled, kind, foreign, binary, data),
    )


def _next(compiled: Compiled, kind: str, foreign: str | None, binary: Path, data: Path | None) -> str:
    """A command to try with what was made."""
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
        words[1:2] = ["train", "--emulate", "--steps", "20"] if target.machine == "aarch64" else ["inspect"]
    else:
        words[1] = "train"
        if target == best_target():
            at = words.index("--target")
            del words[at : at + 2]
    return shlex.join([*words, *more])


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that nobody ever sees half of it."""
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
