"""From options to a running session: plan, build (or take from the cache), load."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eegen.defaults import TRAIN_DEFAULTS
from eegen.errors import EegenError
from eegen.language.optimizers import NUMBERS
from eegen.models import FITS
from eegen.models.config import ModelConfig, default_config
from eegen.plan.build_config import SVL_DEFAULT, BuildConfig
from eegen.plan.planner import Plan, make_plan
from eegen.status import note
from eegen.targets import TARGETS, Target, best_target, runs_here
from eegen.targets.cpuid import needed_features
from eegen.toolchain import measured_tiles as tuned
from eegen.toolchain.cached_compilation import Build, build
from eegen.toolchain.compiler_flags import BASE_FLAGS, PROGRAM_FLAGS
from eegen.toolchain.compiler_search import Compiler, find_compiler
from eegen.toolchain.package_digest import package_digest

if TYPE_CHECKING:
    from eegen.targets.tiles import Choice
    from eegen.toolchain.compiler_flags import Kind


def pick_target(name: str) -> Target:
    """The target of that name; `auto` is the best that this machine runs."""
    if name == "auto":
        return best_target()
    if name not in TARGETS:
        raise EegenError(f"unknown target '{name}'; the targets are auto, {', '.join(TARGETS)}")
    return TARGETS[name]


@dataclass(frozen=True)
class Compiled:
    """A built model: its plan and what the compiler made."""

    plan: Plan
    build: Build


def library_source(plan: Plan) -> str:
    """The C of a model for a host to load."""
    from eegen.emit.source import render

    name = plan.build.name
    return render(
        plan,
        command=build_command(plan.build),
        compile_line=compile_line(plan.target, name),
    )


def program_source(plan: Plan, chars: str) -> str:
    """The C of a whole program: the model, the characters it knows, a `main`."""
    from eegen.emit.source import render

    if len(chars) != plan.build.model.vocab_size - 1:
        raise EegenError(f"{len(chars)} characters do not make a vocabulary of {plan.build.model.vocab_size}")
    return render(
        plan,
        "standalone.c.j2",
        command=build_command(plan.build, standalone=True),
        compile_lines=compile_lines(plan.target, program_name(plan.build)),
        name=program_name(plan.build),
        needed_features=needed_features(plan.target),
        characters=[ord(c) for c in chars],
        defaults={**TRAIN_DEFAULTS, "lr": plan.optimizer.lr},
        numbers={name: x for name, x in NUMBERS.items() if name in (*plan.optimizer.options, "eps")},
    )


def program_name(build: BuildConfig) -> str:
    return build.name + "-standalone"


def placeholder_vocabulary(size: int) -> str:
    """Characters for a program that is only ever given tokens."""
    return "".join(chr(ord("a") + i) for i in range(size - 1))


def build_command(build: BuildConfig, standalone: bool = False) -> str:
    """The command line that makes this build."""
    config = build.model
    words = ["eegen", "build"]
    default = default_config(config.model)
    for name, value in config.as_dict().items():
        if name == "model":
            if value != "gpt":
                words += ["--model", value]
        elif name == "vocab_size" or (name == "d_ff" and value == 4 * config.d_model):
            continue
        elif value != getattr(default, name):
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [] if value is False else [flag, str(value)]
    words += ["--target", build.target]
    if build.svl_bits != SVL_DEFAULT:
        words += ["--svl-bits", str(build.svl_bits)]
    if build.optimizer != "adam":
        words += ["--optimizer", build.optimizer]
    words += ["--standalone"] if standalone else []
    return shlex.join(words)


def compile_model(
    config: ModelConfig,
    target: str = "auto",
    *,
    optimizer: str = "adam",
    profile: bool = False,
    svl_bits: int | None = None,
    cc: str | None = None,
    kind: Kind = "library",
    chars: str = "",
    flags: Sequence[str] = (),
    tiles: Mapping[str, Choice] | None = None,
) -> Compiled:
    """Build a model for a target, from the cache where it has been built before.

    A program has `chars`, the vocabulary of the data it is to read, compiled in. `tiles` are those that `eegen tune`
    has kept for this machine, unless given.
    """
    chosen = pick_target(target)
    if kind == "library" and (reason := runs_here(chosen)) is not None:
        hint = "; --emulate runs it in QEMU" if chosen.machine == "aarch64" else ""
        raise EegenError(f"target {chosen.name} cannot run on this machine: {reason}{hint}")
    if optimizer != "adam" and config.model in FITS:
        raise EegenError(f"--optimizer means nothing to the model '{config.model}', which is not trained")
    if svl_bits is not None and not chosen.svl_bits:
        raise EegenError(f"--svl-bits means nothing to the target {chosen.name}")
    compiler = find_compiler(cc)
    if tiles is None:
        tiles = {} if runs_here(chosen) else tuned.load(chosen, compiler)
    settings = BuildConfig(
        config, chosen.name, optimizer, profile, svl_bits or SVL_DEFAULT, tuple(sorted(tiles.items()))
    )
    plan = make_plan(settings)
    program = kind == "program"
    chars = chars or placeholder_vocabulary(config.vocab_size)
    name = program_name(settings) if program else settings.name

    def source() -> str:
        note(f"compiling {name} with {compiler}; the next time it is there")
        return program_source(plan, chars) if program else library_source(plan)

    made = build(
        source,
        f"{package_digest()} {settings.digest} {chars if program else ''}",
        plan.target,
        compiler,
        kind,
        name,
        flags,
    )
    return Compiled(plan, made)


def compile_line(target: Target, name: str) -> str:
    """How to compile a generated file by hand, with any clang."""
    triple = f"--target={target.triple} " if target.triple else ""
    return f"clang {triple}-O3 {' '.join(target.flags)} -ffreestanding -fno-math-errno -ffp-contract=fast -c {name}.c"


def compile_lines(target: Target, name: str) -> list[tuple[str, str]]:
    """(where, command) for each way to make a program of a generated file."""
    words = " ".join((*BASE_FLAGS, *PROGRAM_FLAGS, *target.flags, f"{name}.c", "-o", name, "-lm"))
    if target.machine == "any":
        return [("on Linux and on a Mac", f"clang {words}"), ("with any C compiler", f"cc -O3 {name}.c -o {name} -lm")]
    if target.machine == "x86_64":
        return [("on Linux", f"clang {words}"), ("on a Mac", f"clang -arch x86_64 {words}")]
    mac = "on a Mac, " if target.machine == "aarch64" else ""
    return [
        (f"{mac}on Linux on {target.machine}", f"clang {words}"),
        ("on other Linux machines", f"clang --target={target.triple} -static -fuse-ld=lld {words}"),
        ("and to run it there", f"qemu-{target.machine} -cpu {target.emulated_cpu} {name}"),
    ]


__all__ = [
    "Compiled",
    "Compiler",
    "compile_line",
    "compile_model",
    "library_source",
    "pick_target",
    "program_name",
    "program_source",
]
