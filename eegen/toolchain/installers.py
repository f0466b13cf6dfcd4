"""The commands that install what is missing: apt's packages where there is apt, and the ziglang wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

QEMU_PACKAGES = ["qemu-user"]


@dataclass(frozen=True)
class Action:
    """One command that was run: whether it worked, and the end of its output."""

    command: str
    ok: bool
    output: str


def run_command(command: Sequence[str], last_lines: int | None = 20) -> Action:
    """Run a command without a terminal, so that one that would ask a question fails."""
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
    return Action(shlex.join(command), done.returncode == 0, "\n".join(lines[-last_lines:] if last_lines else lines))


def apt_command() -> list[str] | None:
    """The words that start an apt-get that may install and asks nothing, or None where there is none."""
    if not shutil.which("apt-get"):
        return None
    rights: list[str] = []
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if not sudo or not run_command([sudo, "-n", "true"]).ok:
            return None
        rights = [sudo, "-n"]
    return [*rights, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]


def apt_line(packages: Sequence[str], otherwise: str | None = None) -> str | None:
    """The command for a person to type: apt's where there is apt, else `otherwise`."""
    if shutil.which("apt-get"):
        return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install -y {' '.join(packages)}"
    return otherwise


def clang_packages(major: int) -> list[str]:
    """The Debian packages of a clang: compiler and linker."""
    return [f"clang-{major}", f"lld-{major}"]


def sanitizer_packages(major: int) -> list[str]:
    """The Debian packages of the sanitizers' runtime libraries, which the tests with clang use."""
    return [f"libclang-rt-{major}-dev"]


def apt_clang_versions() -> list[int]:
    """The NN of every clang-NN package that apt offers, in rising order."""
    names = run_command(["apt-cache", "search", "--names-only", "^clang-[0-9]+$"], last_lines=None).output
    return sorted(int(number) for number in re.findall(r"^clang-(\d+) ", names, re.MULTILINE))


def wheel_command() -> list[str]:
    """The command that installs the ziglang wheel in this Python; -I: no module of the current folder is run."""
    if importlib.util.find_spec("pip") is None and (uv := shutil.which("uv")):
        return [uv, "pip", "install", "--python", sys.executable, "ziglang"]
    return [sys.executable, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "ziglang"]


def wheel_line() -> str:
    """`wheel_command` as text."""
    return shlex.join(wheel_command())
