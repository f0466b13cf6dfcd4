"""From C to something that runs: the flags for each target, compiling through the build cache, emulation."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eegen.errors import EegenError, EegenFailure
from eegen.targets import Target, cpu_machine, runs_here, target_of_machine
from eegen.toolchain import cache
from eegen.toolchain.compiler import INSTALL_HINT, Compiler, all_compilers, find_compiler, too_old, zig_wheel

__all__ = [
    "Build",
    "Compiler",
    "all_compilers",
    "build",
    "compile_command",
    "emulator",
    "find_compiler",
    "package_digest",
]

Kind = Literal["library", "object", "program"]

BASE_FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
# The kernels need no libc: without the hosted assumption clang neither looks for libc headers behind its own
# nor turns loops into calls of memset and memcpy. Outlined atomics (Arm) would be calls too.
KERNEL_FLAGS = ("-ffreestanding", "-fvisibility=hidden")
PROGRAM_FLAGS = ("-fno-builtin",)  # a program has a libc, but its kernels call nothing of it
CACHE_FORMAT = 1


@dataclass(frozen=True)
class Build:
    """What a compilation made. `seconds` is what the compiler took when it was made, `log` what it said."""

    path: Path
    source_path: Path
    seconds: float
    cached: bool
    command: list[str]
    log: str


# --- the command line of a compilation


def is_foreign(target: Target) -> bool:
    """Whether code for `target` is for another kind of processor than this machine's."""
    return target.machine not in ("any", cpu_machine())


def output_name(name: str, target: Target, kind: Kind) -> str:
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
    """The whole command: compiler, where it is for, optimisation, instruction set, kind of output, files."""
    foreign = is_foreign(target)
    mac = sys.platform == "darwin" and not foreign
    hosted = kind == "program" or any("-fsanitize" in flag for flag in extra_flags)
    words = [*compiler.argv, *_platform_flags(compiler, target), *BASE_FLAGS]
    words += _zig_flags(target.flags) if compiler.kind == "zig" else target.flags
    if not mac and (relative := target_of_machine(target.machine if foreign else cpu_machine())):
        words += relative.elf_flags
    words += PROGRAM_FLAGS if kind == "program" else () if hosted else KERNEL_FLAGS
    words += extra_flags
    if kind == "object":
        words += ["-fPIC", *([] if "-S" in extra_flags else ["-c"])]
    elif kind == "library":
        words += ["-dynamiclib" if mac else "-shared", "-fPIC"]
        if not mac and not hosted:
            words.append("-nostdlib")
    elif foreign:
        words.append("-static")
        if compiler.kind == "clang" and _lld(compiler):
            words.append("-fuse-ld=lld")
    words += [source, "-o", output]
    if kind == "program":
        words += ["-lm", "-pthread"]
    return words


def _platform_flags(compiler: Compiler, target: Target) -> list[str]:
    """Which system the output is for. zig means "this very CPU" unless told, so it always is."""
    foreign = is_foreign(target)
    if compiler.kind == "clang":
        return [f"--target={target.triple or f'{target.machine}-linux-gnu'}"] if foreign else []
    if foreign:
        return ["-target", f"{target.machine}-linux-musl", "-fno-sanitize=all"]
    system = "macos" if sys.platform == "darwin" else "linux-gnu" if _glibc_here() else "linux-musl"
    return ["-target", f"{cpu_machine()}-{system}", "-fno-sanitize=all"]


def _zig_flags(flags: Sequence[str]) -> list[str]:
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
        option = "-mcpu" if option == "-march" else option
        words.append(f"{option}=" + "+".join(part.replace("-", "_") for part in (cpu, *features)))
    return words


def _glibc_here() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError, AttributeError):
        return False


def _lld(compiler: Compiler) -> str | None:
    """The lld that `compiler` would run: the one beside it, or the one on PATH."""
    beside = os.path.join(os.path.dirname(os.path.realpath(compiler.argv[0])), "ld.lld")
    return beside if os.access(beside, os.X_OK) else shutil.which("ld.lld")


def cross_libc(machine: str) -> Path | None:
    """The static C library to link programs for another Linux machine with, where Debian and Fedora keep it."""
    triple = f"{machine}-linux-gnu"
    places = (f"/usr/{triple}/lib", f"/usr/lib/{triple}", f"/usr/{triple}/sys-root/usr/lib64")
    return next((found for place in places if (found := Path(place) / "libc.a").exists()), None)


# --- building


@functools.cache
def package_digest() -> str:
    """A hash of all that turns a configuration into C: the package's Python and its templates."""
    package = Path(__file__).resolve().parents[1]
    folders = [package] if (package / "templates").is_dir() else [package, package.parent / "templates"]
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(_sources(str(folder))):
            with open(path, "rb") as file:
                text = file.read()
            total.update(f"{os.path.relpath(path, folder)}\0{len(text)}\0".encode())
            total.update(text)
    return total.hexdigest()


def _sources(folder: str) -> Iterator[str]:
    with os.scandir(folder) as items:
        for item in items:
            if item.is_dir():
                if item.name != "__pycache__":
                    yield from _sources(item.path)
            elif item.name.endswith((".py", ".j2")):
                yield item.path


def build(
    source: str | Callable[[], str],
    key: str,
    target: Target,
    compiler: Compiler,
    kind: Kind,
    name: str,
    extra_flags: Sequence[str] = (),
) -> Build:
    """Compile `source`, or find it compiled.

    `key` stands for the source: it must change whenever `source()` would give another text, and then `source` is
    called only when there is something to compile. With the text itself given, `key` may be empty.
    """
    if reason := too_old(compiler, target):
        raise EegenError(f"{compiler} is clang {compiler.major}, but {reason}; {INSTALL_HINT}")
    source_name, binary_name = f"{name}.c", output_name(name, target, kind)
    words = compile_command(compiler, target, kind, source_name, binary_name, extra_flags)
    text_key = source if isinstance(source, str) else ""
    digest = _digest([CACHE_FORMAT, key, text_key, words, compiler.version, kind, target.name])
    for root in cache.readable_dirs():
        entry = root / "builds" / digest
        if (facts := cache.read_entry(entry)) is not None:
            return Build(entry / binary_name, entry / source_name, facts["seconds"], True, words, facts["log"])

    text = source if isinstance(source, str) else source()
    root = cache.writable_dir()
    try:
        with cache.scratch_dir(root) as scratch:
            (scratch / source_name).write_text(text, encoding="utf-8")
            began = time.perf_counter()
            log, failure = _compile(words, scratch, binary_name)
            seconds = time.perf_counter() - began
            if failure:
                raise _compile_error(compiler, target, kind, failure, words, log, root, f"{name}-{digest[:12]}", text)
            entry = root / "builds" / digest
            facts = cache.publish(scratch, entry, {"seconds": seconds, "log": log, "command": words})
    except OSError as error:
        if "No space left" in str(error) or "quota" in str(error):
            raise cache.no_space(root) from error
        raise EegenFailure(f"cannot build in {root}: {error.strerror or error}; EEGEN_CACHE names another") from error
    return Build(entry / binary_name, entry / source_name, facts["seconds"], False, words, facts["log"])


def _compile(words: list[str], folder: Path, output: str) -> tuple[str, str]:
    """(what the compiler said, why it failed or "")."""
    environment = {**os.environ, "LC_ALL": "C"}
    if folder.is_relative_to(cache.fallback_dir()):
        environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(cache.fallback_dir() / "zig"))
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        return str(error), f"cannot be run: {error.strerror or error}"
    if done.returncode < 0:
        return done.stdout, f"was killed by signal {-done.returncode} (out of memory?)"
    if done.returncode:
        return done.stdout, _first_error(done.stdout) or f"exit code {done.returncode}"
    if not (folder / output).is_file() or not (folder / output).stat().st_size:
        return done.stdout, f"reported success but wrote no {output}"
    return done.stdout, ""


def _first_error(log: str) -> str:
    """The first line of a compiler's output that says what is wrong, else the first line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = re.compile(r"\berror: |undefined (reference|symbol)|cannot find |unable to ")
    return next((line for line in lines if telling.search(line)), lines[0] if lines else "")


def _compile_error(
    compiler: Compiler, target: Target, kind: Kind, failure: str, words: list[str], log: str, root: Path, stem: str,
    text: str,
) -> EegenError:  # fmt: skip
    if "No space left on device" in log:
        return cache.no_space(root)
    if kind == "program" and is_foreign(target) and compiler.kind == "clang" and not cross_libc(target.machine):
        way = " or use --cc ziglang" if zig_wheel() else ""
        return EegenError(f"cannot link a program for {target.name}: no C library for {target.machine}; "
                          f"{INSTALL_HINT}{way}")  # fmt: skip
    kept = root / "failed" / f"{stem}.log"
    try:
        cache.write_atomically(kept.with_suffix(".c"), text)
        cache.write_atomically(kept, f"$ {shlex.join(words)}\n{log}")
        where = f"the log is kept in {kept}"
    except OSError as error:
        where = f"the log could not be kept: {error.strerror or error}"
    # Generated C that a stock clang refuses is this project's fault; a compiler of the user's choice is theirs.
    blame = EegenError if compiler.named else EegenFailure
    return blame(f"{compiler} failed: {failure}; {where}")


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


# --- running what another machine would run


def emulator(target: Target) -> list[str]:
    """The command to put before a program for `target`: nothing if it runs here, else QEMU with the right CPU."""
    reason = runs_here(target)
    if reason is None:
        return []
    if target.emulated_cpu is None:
        raise EegenError(f"{reason}, and QEMU cannot emulate {target.name}: choose another target")
    command = find_qemu(target.machine)
    if command is None:
        raise EegenError(f"{reason}, and there is no qemu-{target.machine} to emulate it; {INSTALL_HINT}")
    return [command, "-cpu", target.emulated_cpu]


def find_qemu(machine: str) -> str | None:
    """User-mode QEMU for `machine`, under either of the names it is packaged by."""
    return shutil.which(f"qemu-{machine}") or shutil.which(f"qemu-{machine}-static")
