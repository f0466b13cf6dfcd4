"""From options to a running session: plan, build (or take from the cache), load."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eegen.config import BuildConfig, ModelConfig
from eegen.errors import EegenError
from eegen.plan import Plan, make_plan
from eegen.targets import TARGETS, Target, best_target, runs_here
from eegen.toolchain import Build, Compiler, build, find_compiler, package_digest

if TYPE_CHECKING:
    from eegen.toolchain import Kind


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


def make_source(plan: Plan, template: str, command: str, compile_line: str) -> str:
    from eegen.render import render

    return render(plan, template, command=command, compile_line=compile_line)


def build_command(config: ModelConfig, target: str, standalone: bool = False) -> str:
    """The command line that makes this build."""
    words = ["eegen", "build"]
    default = ModelConfig(model=config.model) if config.model == "gpt" else None
    for name, value in config.as_dict().items():
        if name == "model":
            if value != "gpt":
                words += ["--model", value]
        elif name == "vocab_size" or (name == "d_ff" and value == 4 * config.d_model):
            continue
        elif default is None or value != getattr(default, name):
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [] if value is False else [flag, str(value)]
    words += ["--target", target] + (["--standalone"] if standalone else [])
    return shlex.join(words)


def compile_model(
    config: ModelConfig,
    target: str = "auto",
    *,
    optimizer: str = "adam",
    profile: bool = False,
    cc: str | None = None,
    kind: Kind = "library",
    flags: Sequence[str] = (),
) -> Compiled:
    """Build a model for a target, from the cache where it has been built before."""
    chosen = pick_target(target)
    if kind == "library" and (reason := runs_here(chosen)) is not None:
        raise EegenError(f"target {chosen.name} cannot run on this machine: {reason}")
    settings = BuildConfig(config, chosen.name, optimizer, profile)
    plan = make_plan(settings)
    compiler = find_compiler(cc)
    made = build(
        lambda: make_source(
            plan,
            "program.c.j2",
            build_command(config, chosen.name),
            compile_line(chosen, settings.name),
        ),
        f"{package_digest()} {settings.digest}",
        chosen,
        compiler,
        kind,
        settings.name,
        flags,
    )
    return Compiled(plan, made)


def compile_line(target: Target, name: str) -> str:
    """How to compile a generated file by hand, with any clang."""
    triple = f"--target={target.triple} " if target.triple else ""
    return f"clang {triple}-O3 {' '.join(target.flags)} -ffreestanding -fno-math-errno -ffp-contract=fast -c {name}.c"


__all__ = ["Compiled", "Compiler", "Path", "compile_model", "pick_target"]
