"""Which clang to use: the one asked for, the newest on PATH, or the one inside the ziglang wheel."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from eegen.errors import EegenError
from eegen.targets import Target
from eegen.toolchain import cache

INSTALL_HINT = "run `eegen doctor --fix`"


@dataclass(frozen=True)
class Compiler:
    """A clang that answers: how it is called and the first line of its --version."""

    argv: tuple[str, ...]
    kind: Literal["clang", "zig"]
    version: str
    major: int
    named: bool = field(default=False, compare=False)  # the user asked for this one (--cc, EEGEN_CC)

    def __str__(self) -> str:
        return shlex.join(self.argv)


def find_compiler(cc: str | None = None) -> Compiler:
    """The compiler to use: `cc`, EEGEN_CC, the newest clang-NN on PATH, clang, the ziglang wheel."""
    for origin, wanted in (("--cc", cc), ("EEGEN_CC", os.environ.get("EEGEN_CC"))):
        if wanted and wanted.strip():
            return _named_compiler(origin, wanted.strip())
    for compiler in all_compilers():
        return compiler
    raise EegenError(f"no compiler: no clang on PATH and no ziglang wheel in this Python; {INSTALL_HINT}")


def all_compilers() -> Iterator[Compiler]:
    """Every compiler found without being told of one, best first, those that fail to answer left out."""
    seen: set[str] = set()
    for argv, binary in _candidates():
        real = os.path.realpath(binary)
        if real in seen:
            continue
        seen.add(real)
        try:
            yield _probe(argv, binary)
        except EegenError:
            continue


def too_old(compiler: Compiler, target: Target) -> str | None:
    """Why `compiler` cannot compile for `target`, in one clause, or None."""
    wanted = target.apple_clang if "Apple" in compiler.version else target.clang
    return f"{target.name} needs clang {wanted} or newer" if compiler.major < wanted else None


def _candidates() -> Iterator[tuple[tuple[str, ...], str]]:
    """(argv, binary to watch for changes) of each place a compiler is looked for."""
    numbered: dict[int, str] = {}
    for folder in dict.fromkeys(map(os.path.realpath, os.get_exec_path())):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if match := re.fullmatch(r"clang-(\d+)", name):
                path = os.path.join(folder, name)
                if os.access(path, os.X_OK):
                    numbered.setdefault(int(match[1]), path)
    for number in sorted(numbered, reverse=True):
        yield (numbered[number],), numbered[number]
    if plain := shutil.which("clang"):
        yield (plain,), plain
    if wheel := zig_wheel():
        yield wheel


def zig_wheel() -> tuple[tuple[str, ...], str] | None:
    """(argv, binary) of the ziglang wheel in this Python, found without importing it."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        return None
    binary = os.path.join(next(iter(spec.submodule_search_locations)), "zig")
    return ((sys.executable, "-m", "ziglang", "cc"), binary) if os.path.exists(binary) else None


def _named_compiler(origin: str, wanted: str) -> Compiler:
    if wanted in ("zig", "ziglang") and (wheel := zig_wheel()):
        return _probe(*wheel, origin=origin)
    whole = shutil.which(os.path.expanduser(wanted))
    try:
        words = [whole] if whole else shlex.split(wanted)
    except ValueError as error:
        raise EegenError(f"{origin} {wanted!r} cannot be read ({error}): give a clang, such as clang-19") from error
    first = shutil.which(os.path.expanduser(words[0])) if words else None
    if first is None:
        raise EegenError(f"{origin} {wanted!r} does not exist or cannot be run: give a clang, such as clang-19")
    if os.path.basename(first) == "zig" and len(words) == 1:
        words.append("cc")
    return _probe((first, *words[1:]), first, origin=origin)


def _probe(argv: tuple[str, ...], binary: str, origin: str | None = None) -> Compiler:
    """Ask for the version; the answer is kept on disk for as long as the binary stays the same file."""
    label = f"{origin} {shlex.join(argv)!r}" if origin else shlex.join(argv)
    try:
        status = os.stat(binary)
    except OSError as error:
        raise EegenError(f"{label} cannot be run: {error.strerror}") from error
    identity = [list(argv), os.path.realpath(binary), status.st_mtime_ns, status.st_size]
    note = cache.cache_dir() / "compilers" / f"{hashlib.sha256(shlex.join(argv).encode()).hexdigest()[:16]}.json"
    version = None
    try:
        kept = json.loads(note.read_bytes())
        if kept["identity"] == identity:
            version = str(kept["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if version is None:
        version = _ask_version(argv, label)
        with contextlib.suppress(OSError):
            cache.write_atomically(note, json.dumps({"identity": identity, "version": version}))
    zig = "ziglang" in argv or os.path.basename(argv[0]).startswith("zig")
    match = re.search(r"clang version (\d+)", version)
    return Compiler(argv, "zig" if zig else "clang", version, int(match[1]) if match else 0, origin is not None)


def _ask_version(argv: tuple[str, ...], label: str) -> str:
    try:
        done = subprocess.run(
            [*argv, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EegenError(f"{label} cannot be run: {error}") from error
    said = (done.stdout.strip() or done.stderr.strip()).splitlines() or ["nothing"]
    if done.returncode or not re.search(r"clang version \d+", said[0]):
        answer = repr(said[0][:100])
        raise EegenError(f"{label} is not a clang: it answers {answer} to --version; give one, such as clang-19")
    return said[0].strip()
