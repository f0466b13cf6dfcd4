"""`eegen build`: the C of a model and what the compiler makes of it, put in a folder to keep."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegen.compile import compile_model, pick_target
from eegen.config import ModelConfig
from eegen.errors import EegenFailure
from eegen.targets import runs_here
from eegen.toolchain import find_qemu

if TYPE_CHECKING:
    from eegen.toolchain import Kind

KIND_NAMES = {"library": "library", "object": "object", "program": "program"}


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
        kind=KIND_NAMES[kind],
        source=str(source),
        binary=str(binary),
        compiler=made.command[0],
        foreign=foreign,
        next=_next(config, name, kind, foreign, binary),
    )


def _next(config: ModelConfig, target: str, kind: str, foreign: str | None, binary: Path) -> str:
    """A command to try with what was made."""
    if kind == "program":
        program = shlex.quote(str(binary if binary.is_absolute() else Path(os.curdir) / binary))
        program = program if "/" in program else f"./{program}"
        qemu = find_qemu("aarch64") if foreign and target in ("neon", "sme2") else None
        emulator = (
            f"{qemu} -cpu max{',sme=on,sme-default-vector-length=64' if target == 'sme2' else ''} " if qemu else ""
        )
        return f"{emulator}{program} --steps 1000"
    words = model_flags(config)
    if foreign:
        return shlex.join(["eegen", "train", *words, "--target", target, "--emulate", "--steps", "20"])
    return shlex.join(["eegen", "train", *words])


def model_flags(config: ModelConfig) -> list[str]:
    """The command line's words for a configuration, what it leaves to the defaults left out."""
    from eegen.config import default_config, flag

    default = default_config(config.model)
    words = [] if config.model == "gpt" else ["--model", config.model]
    for name, value in config.as_dict().items():
        standard = 4 * config.d_model if name == "d_ff" else getattr(default, name)
        if name not in ("model", "vocab_size") and value != standard:
            words += [flag(name)] if value is True else [flag(name), str(value)]
    return words


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
