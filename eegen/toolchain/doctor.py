"""What this machine has of what eegen can use, and how to get the rest."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from eegen.errors import EegenError
from eegen.targets import TARGETS, cpu_machine, runs_here
from eegen.toolchain import cache
from eegen.toolchain.compilation import cross_libc, find_qemu
from eegen.toolchain.compiler import Compiler, all_compilers, find_compiler, too_old, zig_wheel

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix_command` is what a person would type where the state is "missing"."""

    name: str
    state: Literal["ok", "missing", "info"]
    detail: str
    fix_command: str | None = None


@dataclass(frozen=True)
class Action:
    """One command that `fix` ran: whether it worked, and the end of what it said."""

    command: str
    ok: bool
    output: str


def findings(cc: str | None = None) -> list[Finding]:
    """Everything worth knowing, in the order in which it matters."""
    return [*_compiler_findings(cc), *_target_findings(), *_arm_findings(cc), _cache_finding()]


def fix(progress: Progress = lambda line: None, cc: str | None = None) -> list[Action]:
    """Install what is missing where this process may; the `findings` afterwards name what is left to a person.

    `progress` gets a line before each command. Nothing is asked: a command that would prompt fails instead.
    """
    actions: list[Action] = []

    def run(command: Sequence[str]) -> bool:
        progress(shlex.join(command))
        actions.append(_run(command))
        return actions[-1].ok

    if not any(finding.state == "missing" and finding.fix_command for finding in findings(cc)):
        return actions
    privileged = _privileged()
    if privileged is not None and shutil.which("apt-get"):
        get = [*privileged, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        run([*get, "update"])
        if packages := _apt_packages(cc):
            run([*get, "install", "-y", "--no-install-recommends", *packages])
    if _wants_wheel(cc):
        run(_wheel_command())
        importlib.invalidate_caches()
    return actions


def _compiler_findings(cc: str | None) -> list[Finding]:
    """The compiler in use first, then the others."""
    try:
        used = find_compiler(cc)
    except EegenError as error:
        fixable = next(all_compilers(), None) is None
        return [Finding("compiler", "missing", str(error), _compiler_fix() if fixable else None)]
    found = [Finding("compiler", "ok", f"{used}: {used.version}, the one used")]
    found += [Finding("compiler", "info", f"{one}: {one.version}") for one in all_compilers() if one != used]
    if reason := too_old(used, TARGETS["sme2"]):
        found.append(Finding("compiler for sme2", "missing", f"{reason}; this is {used.major}", _compiler_fix()))
    return found


def _target_findings() -> list[Finding]:
    """Which targets this processor runs, and why not the others."""
    return [
        Finding(f"target {target.name}", "info" if reason else "ok", reason or "runs here")
        for target in TARGETS.values()
        for reason in [runs_here(target)]
    ]


def _arm_findings(cc: str | None) -> list[Finding]:
    """What it takes to run the Arm targets on a Linux machine that lacks them."""
    if sys.platform == "darwin":
        return [Finding("emulation", "info", "QEMU's user mode runs on Linux only")]
    found = []
    if qemu := find_qemu("aarch64"):
        found.append(Finding("emulation", "ok", f"{qemu}: {_first_line([qemu, '--version'])}"))
    elif any(runs_here(target) for target in TARGETS.values() if target.machine == "aarch64"):
        detail = "no qemu-aarch64 (package qemu-user): Arm targets are built but not run"
        found.append(Finding("emulation", "missing", detail, _apt_line(["qemu-user"])))
    if cpu_machine() == "aarch64":
        return found
    compiler = _compiler(cc)
    if libc := cross_libc("aarch64"):
        found.append(Finding("programs for Arm", "ok", f"linked with {libc}"))
    elif compiler and compiler.kind == "zig":
        found.append(Finding("programs for Arm", "ok", "linked with the C library of zig"))
    elif zig_wheel():
        found.append(Finding("programs for Arm", "ok", "linked by the ziglang wheel, with --cc ziglang"))
    else:
        detail = "no C library for aarch64: objects are built but not executables"
        found.append(Finding("programs for Arm", "missing", detail, _apt_line(CROSS_PACKAGES, _wheel_line())))
    return found


def _cache_finding() -> Finding:
    folder = cache.cache_dir()
    entries, size = cache.usage(folder)
    return Finding("cache", "info", f"{folder}: {entries} builds, {size / 1e6:.1f} MB")


# --- what to install

CROSS_PACKAGES = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]


def _apt_packages(cc: str | None) -> list[str]:
    """The Debian packages for what is missing, of those that apt knows."""
    packages: list[str] = []
    compiler = _compiler(cc)
    if compiler is None or too_old(compiler, TARGETS["sme2"]):
        newest = _newest_apt_clang()
        if newest > (compiler.major if compiler else 0):
            packages += [f"clang-{newest}", f"lld-{newest}", f"libclang-rt-{newest}-dev"]  # rt: sanitizers, in tests
    missing = {finding.name for finding in findings(cc) if finding.state == "missing"}
    if "emulation" in missing:
        packages.append("qemu-user")
    if "programs for Arm" in missing:
        packages += CROSS_PACKAGES
    return packages


def _newest_apt_clang() -> int:
    """The highest NN of the clang-NN packages on offer, or 0."""
    names = _run(["apt-cache", "search", "--names-only", "^clang-[0-9]+$"], keep=None).output
    return max((int(number) for number in re.findall(r"^clang-(\d+) ", names, re.MULTILINE)), default=0)


def _wants_wheel(cc: str | None) -> bool:
    """Whether a clang from the Python package index is what is left to try."""
    if zig_wheel():
        return False
    compiler = _compiler(cc)
    if compiler is None or too_old(compiler, TARGETS["sme2"]):
        return True
    return any(finding.name == "programs for Arm" and finding.state == "missing" for finding in findings(cc))


def _compiler(cc: str | None) -> Compiler | None:
    """The compiler in use; where a wrong one was asked for, the one that would be used instead."""
    try:
        return find_compiler(cc)
    except EegenError:
        return next(all_compilers(), None)


def _privileged() -> list[str] | None:
    """The words that make a command root's without asking anybody, or None where there are none."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    return [sudo, "-n"] if sudo and _run([sudo, "-n", "true"]).ok else None


def _compiler_fix() -> str | None:
    if sys.platform == "darwin":
        return "xcode-select --install"
    newest = _newest_apt_clang()
    return _apt_line([f"clang-{newest}", f"lld-{newest}"] if newest else ["clang", "lld"], _wheel_line())


def _apt_line(packages: Sequence[str], otherwise: str | None = None) -> str | None:
    """The one command for a person to type: apt's where there is apt, else `otherwise`."""
    if shutil.which("apt-get"):
        return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install -y {' '.join(packages)}"
    return otherwise


def _wheel_command() -> list[str]:
    if importlib.util.find_spec("pip") is None and (uv := shutil.which("uv")):
        return [uv, "pip", "install", "--python", sys.executable, "ziglang"]
    return [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "ziglang"]


def _wheel_line() -> str:
    return shlex.join(_wheel_command())


def _first_line(command: Sequence[str]) -> str:
    return (_run(command, keep=None).output.splitlines() or [""])[0]


def _run(command: Sequence[str], keep: int | None = 20) -> Action:
    """Run without a terminal; `keep` is how many of the last lines of output matter."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return Action(shlex.join(command), False, str(error))
    lines = done.stdout.splitlines()
    return Action(shlex.join(command), done.returncode == 0, "\n".join(lines[-keep:] if keep else lines))
