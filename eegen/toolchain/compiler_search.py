"""Which clang to use: the one asked for, the newest on PATH, or the one inside the ziglang wheel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import site
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from eegen.errors import EegenError
from eegen.targets import Target
from eegen.toolchain import build_cache

INSTALL_HINT = "run `eegen doctor --fix`"
ZIG_NAMES = ("zig", "ziglang")  # what --cc and EEGEN_CC call the wheel's compiler


@dataclass(frozen=True)
class Compiler:
    """A clang that answers: the words that start it and the first line of its --version."""

    argv: tuple[str, ...]
    kind: Literal["clang", "zig"]
    version: str
    major: int
    named: bool = field(default=False, compare=False)  # the user asked for this one (--cc, EEGEN_CC)

    def __str__(self) -> str:
        """What --cc calls it: the wheel's has a short name, its path is long."""
        return "ziglang" if self.argv == zig_wheel() else shlex.join(self.argv)


def find_compiler(cc: str | None = None) -> Compiler:
    """The compiler to use: `cc`, EEGEN_CC, the newest clang-NN on PATH, clang, the ziglang wheel."""
    for origin, wanted in (("--cc", cc), ("EEGEN_CC", os.environ.get("EEGEN_CC"))):
        if wanted and wanted.strip():
            return _named_compiler(origin, wanted.strip())
    for compiler in all_compilers():
        return compiler
    raise EegenError(f"no compiler: no clang on PATH and no ziglang wheel in this Python; {INSTALL_HINT}")


def all_compilers() -> Iterator[Compiler]:
    """Every compiler found without being asked for by name, best first; those that do not answer are left out."""
    seen: set[str] = set()
    for argv in _candidates():
        real = os.path.realpath(argv[0])
        if real in seen:
            continue
        seen.add(real)
        try:
            yield _probe(argv)
        except EegenError:
            continue


def too_old(compiler: Compiler, target: Target) -> str | None:
    """Why `compiler` cannot compile for `target`, in one clause, or None."""
    needed = target.apple_clang if "Apple" in compiler.version else target.clang
    return f"{target.name} needs clang {needed} or newer" if compiler.major < needed else None


def zig_wheel() -> tuple[str, ...] | None:
    """The command of the clang in this Python's ziglang wheel, or None.

    The program itself, in the folders that packages are installed in: `python -m ziglang` would run a ziglang.py of
    the current folder.
    """
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    for folder in folders:
        binary = os.path.join(folder, "ziglang", "zig")
        if os.access(binary, os.X_OK):
            return binary, "cc"
    return None


def _candidates() -> Iterator[tuple[str, ...]]:
    """The command of each compiler that is there: every clang-NN on PATH, the newest first, clang, the wheel's."""
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
        yield (numbered[number],)
    if plain := shutil.which("clang"):
        yield (plain,)
    if wheel := zig_wheel():
        yield wheel


def _named_compiler(origin: str, wanted: str) -> Compiler:
    """The compiler that the user asked for; `origin` is how."""
    if wanted in ZIG_NAMES and (wheel := zig_wheel()):
        return _probe(wheel, origin)
    whole = shutil.which(os.path.expanduser(wanted))
    try:
        words = [whole] if whole else shlex.split(wanted)
    except ValueError as error:
        raise EegenError(f"{origin} {wanted!r} cannot be read ({error}): give a clang, such as clang-19") from error
    first = shutil.which(os.path.expanduser(words[0])) if words else None
    if first is None and wanted in ZIG_NAMES:
        raise EegenError(
            f"{origin} is {wanted}, and this Python has no ziglang wheel; {INSTALL_HINT[:-1]} --cc ziglang`"
        )
    if first is None:
        raise EegenError(f"{origin} {wanted!r} does not exist or cannot be run: give a clang, such as clang-19")
    if os.path.basename(first) == "zig" and len(words) == 1:
        words.append("cc")
    return _probe((first, *words[1:]), origin)


def _probe(argv: tuple[str, ...], origin: str | None = None) -> Compiler:
    """Ask for the version; the answer is kept on disk for as long as the program stays the same file."""
    label = f"{origin} {shlex.join(argv)!r}" if origin else shlex.join(argv)
    try:
        status = os.stat(argv[0])
    except OSError as error:
        raise EegenError(f"{label} cannot be run: {error.strerror}") from error
    identity = [list(argv), os.path.realpath(argv[0]), status.st_mtime_ns, status.st_size]
    digest = hashlib.sha256(shlex.join(argv).encode()).hexdigest()[:16]
    file = build_cache.cache_dir() / "compilers" / f"{digest}.json"
    version = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_bytes())
        version = str(kept["version"]) if kept["identity"] == identity else None
    if version is None:
        version = _ask_version(argv, label)
        with contextlib.suppress(OSError):
            build_cache.write_atomically(file, json.dumps({"identity": identity, "version": version}))
    match = re.search(r"clang version (\d+)", version)
    zig = "ziglang" in argv or os.path.basename(argv[0]).startswith("zig")
    kind: Literal["clang", "zig"] = "zig" if zig else "clang"
    return Compiler(argv, kind, version, int(match[1]) if match else 0, origin is not None)


def _ask_version(argv: tuple[str, ...], label: str) -> str:
    """The first line of the compiler's --version; an EegenError where it is not a clang's."""
    try:
        done = subprocess.run(
            [*argv, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EegenError(f"{label} cannot be run: {error}") from error
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines() or ["nothing"]
    if done.returncode or not re.search(r"clang version \d+", lines[0]):
        answer = repr(lines[0][:100])
        raise EegenError(f"{label} is not a clang: it answers {answer} to --version; give one, such as clang-19")
    return lines[0].strip()
