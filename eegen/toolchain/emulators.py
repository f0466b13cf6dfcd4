"""Running programs for another processor: user-mode QEMU."""

from __future__ import annotations

import shutil

from eegen.errors import EegenError
from eegen.targets import Target, runs_here
from eegen.toolchain.compiler_search import INSTALL_HINT


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
