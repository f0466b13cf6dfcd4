"""Compiling C through the build cache: a source that was compiled before is not compiled again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegen.errors import EegenError, EegenFailure
from eegen.targets import Target
from eegen.toolchain import build_cache
from eegen.toolchain.compiler_flags import Kind, compile_commands, cross_libc, is_foreign, output_name
from eegen.toolchain.compiler_search import INSTALL_HINT, Compiler, too_old, zig_wheel

CACHE_FORMAT = 1


@dataclass(frozen=True)
class Build:
    """What a compilation made. `seconds` is how long the compiler took when it was made, `log` its output.

    `command` is the command that compiled the source; where there were two, the other one linked.
    """

    path: Path
    source_path: Path
    seconds: float
    cached: bool
    compiler: str
    command: list[str]
    log: str


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

    `key` stands for the source: it must change whenever `source()` would return another text, and then `source` is
    called only when there is something to compile. With the text itself given, `key` may be empty.
    """
    if reason := too_old(compiler, target):
        raise EegenError(f"{compiler} is clang {compiler.major}, but {reason}; {INSTALL_HINT}")
    source_name, binary_name = f"{name}.c", output_name(name, target, kind)
    commands = compile_commands(compiler, target, kind, source_name, binary_name, extra_flags)
    text_key = source if isinstance(source, str) else ""
    digest = _digest([CACHE_FORMAT, key, text_key, commands, compiler.version, kind, target.name])

    def made(entry: Path, facts: Mapping[str, Any], cached: bool) -> Build:
        paths = entry / binary_name, entry / source_name
        return Build(*paths, facts["seconds"], cached, str(compiler), commands[0], facts["log"])

    for root in build_cache.readable_dirs():
        entry = root / "builds" / digest
        if (facts := build_cache.read_entry(entry)) is not None:
            return made(entry, facts, cached=True)

    text = source if isinstance(source, str) else source()
    root = build_cache.writable_dir()
    try:
        with build_cache.scratch_dir(root) as scratch:
            (scratch / source_name).write_text(text, encoding="utf-8")
            began = time.perf_counter()
            log, failure = _compile(commands, scratch)
            seconds = time.perf_counter() - began
            if failure:
                if known := _known_reason(compiler, target, kind, log, root):
                    raise known
                raise _compiler_failed(compiler, failure, log, root / "failed" / f"{name}-{digest[:12]}", text)
            entry = root / "builds" / digest
            facts = build_cache.publish(scratch, entry, {"seconds": seconds, "log": log, "command": commands[0]})
    except OSError as error:
        if "No space left" in str(error) or "quota" in str(error):
            raise build_cache.no_space(root) from error
        raise EegenFailure(f"cannot build in {root}: {error.strerror or error}; EEGEN_CACHE names another") from error
    return made(entry, facts, cached=False)


def _compile(commands: list[list[str]], folder: Path) -> tuple[str, str]:
    """Run the commands up to the first that fails: (commands and what they printed, why the last failed or "").

    Intermediate files are deleted.
    """
    log = ""
    for words in commands:
        printed, failure = _run(words, folder, words[words.index("-o") + 1])
        log += printed
        if failure:
            return f"$ {shlex.join(words)}\n{log}", failure
    for words in commands[:-1]:
        (folder / words[words.index("-o") + 1]).unlink()
    return log, ""


def _run(words: list[str], folder: Path, output: str) -> tuple[str, str]:
    """(what the compiler printed, why it failed or "")."""
    environment = {**os.environ, "LC_ALL": "C"}
    if folder.is_relative_to(build_cache.fallback_dir()):
        environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(build_cache.fallback_dir() / "zig"))
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


def _known_reason(compiler: Compiler, target: Target, kind: Kind, log: str, root: Path) -> EegenError | None:
    """The error for a failure that is neither the compiler's fault nor the source's, or None."""
    if "No space left on device" in log:
        return build_cache.no_space(root)
    if kind == "program" and is_foreign(target) and compiler.kind == "clang" and not cross_libc(target.machine):
        way = "give --cc ziglang, which has one" if zig_wheel() else INSTALL_HINT
        return EegenError(f"cannot link a program for {target.name}: no C library for {target.machine}; {way}")
    return None


def _compiler_failed(compiler: Compiler, failure: str, log: str, kept: Path, text: str) -> EegenError:
    """The error for a source that does not compile; the source and the log are kept beside the cache's entries."""
    path = kept.with_name(f"{kept.name}.log")
    try:
        build_cache.write_atomically(kept.with_name(f"{kept.name}.c"), text)
        build_cache.write_atomically(path, log)
        where = f"the log is kept in {path}"
    except OSError as error:
        where = f"the log could not be kept: {error.strerror or error}"
    # That a stock clang refuses generated C is an error of this project (exit code 1); a compiler that the user
    # named may be the wrong one (exit code 2).
    kind = EegenError if compiler.named else EegenFailure
    return kind(f"{compiler} failed: {failure}; {where}")


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
