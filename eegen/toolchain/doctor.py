"""What this machine has of what eegen can use, and how to get the rest."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eegen.errors import EegenError
from eegen.targets import TARGETS, Target, cpu_machine, runs_here
from eegen.toolchain import build_cache
from eegen.toolchain.compiler_flags import cross_libc
from eegen.toolchain.compiler_search import ZIG_NAMES, Compiler, all_compilers, find_compiler, too_old, zig_wheel
from eegen.toolchain.emulators import find_qemu
from eegen.toolchain.installers import (
    QEMU_PACKAGES,
    Action,
    apt_clang_versions,
    apt_command,
    apt_line,
    clang_packages,
    run_command,
    sanitizer_packages,
    wheel_command,
    wheel_line,
)

Progress = Callable[[str], None]
FAMILIES = {"aarch64": "Arm", "riscv64": "RISC-V", "x86_64": "x86-64"}


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix_command` is what a person would type where the state is "missing"."""

    name: str
    state: Literal["ok", "missing", "info"]
    detail: str
    fix_command: str | None = None


def findings(cc: str | None = None) -> list[Finding]:
    """All findings, the compiler that is used first. `cc` is a compiler asked for by name, as in find_compiler."""
    return [
        *_compiler_findings(cc),
        *_sanitizer_findings(cc),
        *_target_findings(),
        *_emulation_findings(),
        *_cross_findings(cc),
        _cache_finding(),
    ]


def fix(progress: Progress = lambda line: None, cc: str | None = None) -> list[Action]:
    """Install what is missing, as far as this process may; afterwards `findings` names what is still missing.

    `progress` gets a line before each command. Nothing is asked: a command that would prompt fails instead.
    """
    actions: list[Action] = []

    def run(command: Sequence[str]) -> None:
        progress(shlex.join(command))
        actions.append(run_command(command))

    if not any(finding.state == "missing" and finding.fix_command for finding in findings(cc)):
        return actions
    if not _wheel_named(cc) and (apt := apt_command()):
        run([*apt, "update"])
        done: list[str] = []
        while (packages := _apt_packages(cc)) and packages != done:  # a new clang may need more than the old one
            run([*apt, "install", "-y", "--no-install-recommends", *packages])
            done = packages
    if _needs_wheel(cc):
        run(wheel_command())
        importlib.invalidate_caches()
    return actions


# --- what is there


def _compiler_findings(cc: str | None) -> list[Finding]:
    """The compiler in use first, then the others."""
    try:
        used = find_compiler(cc)
    except EegenError as error:
        return [Finding("compiler", "missing", str(error), _compiler_fix(cc))]
    found = [Finding("compiler", "ok", f"{used}: {used.version}, the one used")]
    found += [Finding("compiler", "info", f"{one}: {one.version}") for one in all_compilers() if one != used]
    found += [
        Finding(f"compiler for {target.name}", "missing", f"{reason}; this is {used.major}", _newest_clang_fix())
        for target, reason in _not_compiled(used)
    ]
    return found


def _sanitizer_findings(cc: str | None) -> list[Finding]:
    """Whether the compiler in use has the runtime libraries that the tests with sanitizers link."""
    compiler = _compiler(cc)
    if compiler is None:
        return []
    if compiler.kind == "zig":
        return [Finding("sanitizers", "info", "zig has UndefinedBehaviorSanitizer; AddressSanitizer needs clang")]
    folder = Path(_first_line([*compiler.argv, "-print-resource-dir"]))
    if folder.is_dir() and next(folder.glob("lib/**/libclang_rt.asan*"), None):
        return [Finding("sanitizers", "ok", f"runtime libraries in {folder}")]
    detail = f"{compiler} has no runtime library of AddressSanitizer, which tests use"
    return [Finding("sanitizers", "missing", detail, apt_line(sanitizer_packages(compiler.major)))]


def _target_findings() -> list[Finding]:
    """Which targets this processor runs, and why not the others."""
    return [
        Finding(f"target {target.name}", "info" if reason else "ok", reason or "runs here")
        for target in TARGETS.values()
        for reason in [runs_here(target)]
    ]


def _not_compiled(compiler: Compiler) -> list[tuple[Target, str]]:
    """The targets that the compiler is too old for, and why."""
    return [(target, reason) for target in TARGETS.values() if (reason := too_old(compiler, target))]


def _emulation_findings() -> list[Finding]:
    """Whether QEMU is there for the targets of other processor families."""
    if sys.platform == "darwin":
        return [Finding("emulation", "info", "QEMU's user mode runs on Linux only")]
    emulated = [target for target in TARGETS.values() if target.emulated_cpu and _foreign(target)]
    machines = list(dict.fromkeys(target.machine for target in emulated))
    if absent := [machine for machine in machines if not find_qemu(machine)]:
        programs = " and ".join(f"qemu-{machine}" for machine in absent)
        names = ", ".join(target.name for target in emulated if target.machine in absent)
        detail = f"no {programs} (package qemu-user): programs for {names} are built but not run"
        return [Finding("emulation", "missing", detail, apt_line(QEMU_PACKAGES))]
    found = [qemu for machine in machines if (qemu := find_qemu(machine))]
    return [Finding("emulation", "ok", f"{qemu}: {_first_line([qemu, '--version'])}") for qemu in found]


def _cross_findings(cc: str | None) -> list[Finding]:
    """What programs for other processor families are linked with."""
    if sys.platform == "darwin":
        return []
    return [_cross_finding(machine, packages, cc) for machine, packages in _cross_packages().items()]


def _cross_finding(machine: str, packages: Sequence[str], cc: str | None) -> Finding:
    name, compiler = _cross_name(machine), _compiler(cc)
    if compiler and compiler.kind == "zig":
        return Finding(name, "ok", "linked with the C library of zig")
    if libc := cross_libc(machine):
        return Finding(name, "ok", f"linked with {libc}")
    if zig_wheel():
        return Finding(name, "ok", "linked by the ziglang wheel, with --cc ziglang")
    detail = f"no C library for {machine}: objects are built but not programs"
    return Finding(name, "missing", detail, apt_line(packages, wheel_line()))


def _cross_name(machine: str) -> str:
    return f"programs for {FAMILIES.get(machine, machine)}"


def _foreign(target: Target) -> bool:
    return target.machine not in ("any", cpu_machine())


def _cross_packages() -> dict[str, tuple[str, ...]]:
    """Other processor families, and the Debian packages that link programs for them."""
    return {target.machine: target.debian_packages for target in TARGETS.values() if _foreign(target)}


def _cache_finding() -> Finding:
    folder = build_cache.cache_dir()
    entries, size = build_cache.usage(folder)
    return Finding("cache", "info", f"{folder}: {entries} builds, {size / 1e6:.1f} MB")


def _compiler(cc: str | None) -> Compiler | None:
    """The compiler in use; where the one asked for by name is not there, the one that would be used without it."""
    try:
        return find_compiler(cc)
    except EegenError:
        return next(all_compilers(), None)


def _first_line(command: Sequence[str]) -> str:
    return (run_command(command, last_lines=None).output.splitlines() or [""])[0]


# --- what to install


def _named(cc: str | None) -> str | None:
    """The compiler asked for by --cc or EEGEN_CC where it is not there, else None."""
    try:
        find_compiler(cc)
    except EegenError:
        return (cc or "").strip() or os.environ.get("EEGEN_CC", "").strip() or None
    return None


def _wheel_named(cc: str | None) -> bool:
    return _named(cc) in ZIG_NAMES


def _clang_named(cc: str | None) -> int | None:
    """The NN of a clang-NN that was asked for and is not there."""
    match = re.fullmatch(r"clang-(\d+)", _named(cc) or "")
    return int(match[1]) if match else None


def _compiler_fix(cc: str | None) -> str | None:
    """The command that installs the compiler asked for, or any where none was; None where it cannot be installed."""
    if _wheel_named(cc):
        return wheel_line()
    if number := _clang_named(cc):
        return apt_line(clang_packages(number))
    return _newest_clang_fix() if next(all_compilers(), None) is None else None


def _newest_clang_fix() -> str | None:
    if sys.platform == "darwin":
        return "xcode-select --install"
    newest = max(apt_clang_versions(), default=0)
    return apt_line(clang_packages(newest) if newest else ["clang", "lld"], wheel_line())


def _apt_packages(cc: str | None) -> list[str]:
    """The Debian packages for what is missing."""
    packages: list[str] = []
    compiler = _compiler(cc)
    if number := _clang_named(cc):
        packages += [*clang_packages(number), *sanitizer_packages(number)]
    elif compiler is None or _not_compiled(compiler):
        newest = max(apt_clang_versions(), default=0)
        if newest > (compiler.major if compiler else 0):
            packages += [*clang_packages(newest), *sanitizer_packages(newest)]
    missing = {finding.name for finding in findings(cc) if finding.state == "missing"}
    if "sanitizers" in missing and compiler and not packages:
        packages += sanitizer_packages(compiler.major)
    if "emulation" in missing:
        packages += QEMU_PACKAGES
    for machine, names in _cross_packages().items():
        if _cross_name(machine) in missing:
            packages += names
    return packages


def _needs_wheel(cc: str | None) -> bool:
    """Whether a clang from the Python package index is what is left to try."""
    if zig_wheel():
        return False
    if _wheel_named(cc):
        return True
    compiler = _compiler(cc)
    if compiler is None or _not_compiled(compiler):
        return True
    return any(finding.name.startswith("programs for ") and finding.state == "missing" for finding in findings(cc))
