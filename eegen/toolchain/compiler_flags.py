"""The command line of a compilation: compiler, platform, optimization, instruction set, kind of output."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from eegen.targets import Target, cpu_machine, target_of_machine
from eegen.toolchain.compiler_search import Compiler

Kind = Literal["library", "object", "program"]

BASE_FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
# The kernels need no libc: without the hosted assumption clang neither looks for libc headers behind its own
# nor makes loops calls of memset and memcpy.
KERNEL_FLAGS = ("-ffreestanding", "-fvisibility=hidden")
PROGRAM_FLAGS = ("-fno-builtin",)  # a program has a libc, but its kernels call nothing of it


def is_foreign(target: Target) -> bool:
    """Whether code for `target` is for another kind of processor than this machine's."""
    return target.machine not in ("any", cpu_machine())


def output_name(name: str, target: Target, kind: Kind) -> str:
    """The file name of an output."""
    if kind == "library":
        return f"{name}.dylib" if sys.platform == "darwin" and not is_foreign(target) else f"{name}.so"
    return f"{name}.o" if kind == "object" else name


def compile_command(
    compiler: Compiler,
    target: Target,
    kind: Kind,
    source: str,
    output: str,
    extra_flags: Sequence[str] = (),
) -> list[str]:
    """One command from source to output. `extra_flags` come after all others that they may overrule."""
    sanitized = any("-fsanitize" in flag for flag in extra_flags)
    words = [*compiler.argv, *platform_flags(compiler, target), *BASE_FLAGS]
    words += zig_spelling(target.flags) if compiler.kind == "zig" else target.flags
    if not _for_mac(target) and (
        relative := target_of_machine(target.machine if is_foreign(target) else cpu_machine())
    ):
        words += relative.elf_flags
    words += PROGRAM_FLAGS if kind == "program" else () if sanitized else KERNEL_FLAGS
    words += extra_flags
    words += _kind_flags(compiler, target, kind, hosted=sanitized, assembly="-S" in extra_flags)
    words += [source, "-o", output]
    if kind == "program":
        words += ["-lm", "-pthread"]
    return words


def compile_commands(
    compiler: Compiler,
    target: Target,
    kind: Kind,
    source: str,
    output: str,
    extra_flags: Sequence[str] = (),
) -> list[list[str]]:
    """The commands from source to output, in order; the last writes `output`.

    zig compiles its C library anew for each CPU that it links for, which takes a minute: a program is compiled for the
    target's CPU and linked for any CPU of the family.
    """
    whole = compile_command(compiler, target, kind, source, output, extra_flags)
    if compiler.kind != "zig" or kind != "program":
        return [whole]
    compiling = [*whole[: whole.index(source)], "-c", source, "-o", f"{output}.o"]
    compiling = [word for word in compiling if word != "-static"]
    linking = [*compiler.argv, *platform_flags(compiler, target), *BASE_FLAGS, *extra_flags]
    linking += [*_kind_flags(compiler, target, kind, hosted=True, assembly=False), f"{output}.o", "-o", output]
    return [compiling, [*linking, "-lm", "-pthread"]]


def platform_flags(compiler: Compiler, target: Target) -> list[str]:
    """Which system the output is for. zig means "this very CPU" unless told, so it always is."""
    foreign = is_foreign(target)
    if compiler.kind == "clang":
        return [f"--target={target.triple or f'{target.machine}-linux-gnu'}"] if foreign else []
    system = "linux-musl" if foreign else _zig_system()
    return ["-target", f"{target.machine if foreign else cpu_machine()}-{system}", "-fno-sanitize=all"]


def zig_spelling(flags: Sequence[str]) -> list[str]:
    """clang's flags for an instruction set in zig's spelling: underscores, features behind plus signs, no -march."""
    words = []
    for flag in flags:
        option, _, value = flag.partition("=")
        if option not in ("-march", "-mcpu", "-mtune"):
            words.append(flag)
            continue
        cpu, *features = value.split("+")
        if match := re.fullmatch(r"armv(\d+)(?:\.(\d+))?-a", cpu):
            cpu = "generic"
            features.insert(0, f"v{match[1]}{f'_{match[2]}' if match[2] else ''}a")
        elif match := re.fullmatch(r"rv64gc([a-z]*)((?:_\w+)*)", cpu):
            cpu = "baseline_rv64"
            features = [*match[1], *match[2].split("_")[1:]]
        option = "-mcpu" if option == "-march" else option
        words.append(f"{option}=" + "+".join(part.replace("-", "_") for part in (cpu, *features)))
    return words


def cross_libc(machine: str) -> Path | None:
    """The static C library to link programs for another Linux machine with, where Debian and Fedora keep it."""
    triple = f"{machine}-linux-gnu"
    places = (f"/usr/{triple}/lib", f"/usr/lib/{triple}", f"/usr/{triple}/sys-root/usr/lib64")
    return next((found for place in places if (found := Path(place) / "libc.a").exists()), None)


def _for_mac(target: Target) -> bool:
    return sys.platform == "darwin" and not is_foreign(target)


def _kind_flags(compiler: Compiler, target: Target, kind: Kind, hosted: bool, assembly: bool) -> list[str]:
    """What makes the output an object (or assembly), a shared library, or a program."""
    if kind == "object":
        return ["-fPIC"] if assembly else ["-fPIC", "-c"]
    if kind == "library":
        if _for_mac(target):
            return ["-dynamiclib", "-fPIC"]
        return ["-shared", "-fPIC"] if hosted else ["-shared", "-fPIC", "-nostdlib"]
    if not is_foreign(target):
        return []
    return ["-static", "-fuse-ld=lld"] if compiler.kind == "clang" and _lld(compiler) else ["-static"]


def _zig_system() -> str:
    """This machine's system in zig's words, with the C library that its Python is linked with."""
    if sys.platform == "darwin":
        return "macos"
    try:
        return "linux-gnu" if os.confstr("CS_GNU_LIBC_VERSION") else "linux-musl"
    except (ValueError, OSError, AttributeError):
        return "linux-musl"


def _lld(compiler: Compiler) -> str | None:
    """The lld that `compiler` would run: the one beside it, or the one on PATH."""
    beside = os.path.join(os.path.dirname(os.path.realpath(compiler.argv[0])), "ld.lld")
    return beside if os.access(beside, os.X_OK) else shutil.which("ld.lld")
