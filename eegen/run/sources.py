"""The C of a plan as whole files: a library, a program with a `main`, a server; each opens with how it was made."""

from __future__ import annotations

import shlex

from eegen.defaults import TRAIN_DEFAULTS
from eegen.emit.entries import entries_of
from eegen.emit.source import render
from eegen.errors import EegenError
from eegen.language.optimizers import NUMBERS
from eegen.models.config import DEFAULT_MODEL
from eegen.options import flag
from eegen.plan.build_config import SVL_DEFAULT, BuildConfig
from eegen.plan.records import Plan
from eegen.targets import Target
from eegen.toolchain.compiler_flags import BASE_FLAGS, PROGRAM_FLAGS


def source_of(plan: Plan, output: str, name: str, chars: str = "") -> str:
    """The C of the file `name`.c to build for an output; `chars` is the vocabulary of a program."""
    if output == "program":
        return program_source(plan, chars or placeholder_vocabulary(plan.build.model.vocab_size), name)
    return server_source(plan, name) if output == "server" else library_source(plan)


def library_source(plan: Plan) -> str:
    """The C of a model for a host to load."""
    name = plan.build.name
    return render(plan, command=build_command(plan.build), compile_line=compile_line(plan.target, name))


def program_source(plan: Plan, chars: str, name: str) -> str:
    """The C of a whole program: the model, the characters it knows, a `main`."""
    if len(chars) != plan.build.model.vocab_size - 1:
        raise EegenError(f"{len(chars)} characters do not make a vocabulary of {plan.build.model.vocab_size}")
    return render(
        plan,
        "standalone.c.j2",
        command=build_command(plan.build, "build", "--standalone"),
        compile_lines=compile_lines(plan.target, name),
        name=name,
        characters=[ord(c) for c in chars],
        defaults={**TRAIN_DEFAULTS, "lr": plan.optimizer.lr},
        numbers={name: x for name, x in NUMBERS.items() if name in (*plan.optimizer.options, "eps")},
    )


def server_source(plan: Plan, name: str) -> str:
    """The C of a program that serves calls of the model's functions on an arena shared with the caller."""
    return render(
        plan,
        "server.c.j2",
        command=build_command(plan.build, "train", "--emulate"),
        compile_line=compile_lines(plan.target, name)[0][1],
        entries=entries_of(plan),
        layouts=[program.program.entries[0].name for program in plan.programs],
    )


def placeholder_vocabulary(size: int) -> str:
    """Characters for a program whose vocabulary does not matter."""
    return "".join(chr(ord("a") + i) for i in range(size - 1))


def build_command(build: BuildConfig, command: str = "build", *flags: str) -> str:
    """The command line that makes this build."""
    config = build.model
    words = ["eegen", command]
    if config.model != DEFAULT_MODEL:
        words += ["--model", config.model]
    for name, value in config.changed.items():
        if name != "vocab_size" and value is not False:  # the data decide the vocabulary
            words += [flag(name)] if value is True else [flag(name), str(value)]
    words += ["--target", build.target]
    if build.svl_bits != SVL_DEFAULT:
        words += ["--svl-bits", str(build.svl_bits)]
    if build.optimizer != "adam":
        words += ["--optimizer", build.optimizer]
    return shlex.join([*words, *flags])


def compile_line(target: Target, name: str) -> str:
    """How to compile a generated file by hand, with any clang."""
    triple = f"--target={target.triple} " if target.triple else ""
    return f"clang {triple}-O3 {' '.join(target.flags)} -ffreestanding -fno-math-errno -ffp-contract=fast -c {name}.c"


def compile_lines(target: Target, name: str) -> list[tuple[str, str]]:
    """(where, command) for each way to make a program of a generated file."""
    words = " ".join((*BASE_FLAGS, *PROGRAM_FLAGS, *target.flags, f"{name}.c", "-o", name, "-lm"))
    lines = [(where, f"clang {flags}{words}") for where, flags in target.systems]
    if target.machine == "any":
        lines.append(("with any C compiler", f"cc -O3 {name}.c -o {name} -lm"))
    if target.emulated_cpu:
        lines += [
            ("on other Linux machines", f"clang --target={target.triple} -static -fuse-ld=lld {words}"),
            ("and to run it there", f"qemu-{target.machine} -cpu {target.emulated_cpu} {name}"),
        ]
    return lines
