"""The instruction sets eegen writes C for, best first, and which of them this machine runs."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from eegen.targets import avx2, avx512, neon, scalar, sme2
from eegen.targets.base import Panel, Target, Tile

__all__ = [
    "TARGETS",
    "Panel",
    "Target",
    "Tile",
    "best_target",
    "cpu_features",
    "cpu_machine",
    "runs_here",
    "with_vectors",
]

TARGETS: dict[str, Target] = {room.TARGET.name: room.TARGET for room in (sme2, avx512, avx2, neon, scalar)}

_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_SYSCTL = {"hw.optional.arm.FEAT_SME2": "sme2", "hw.optional.avx2_0": "avx2", "hw.optional.fma": "fma"} | {
    f"hw.optional.avx512{part}": f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl")
}


def with_vectors(target: Target, svl_bits: int) -> Target:
    """`target` for streaming vectors of that length; the same where it has none."""
    return replace(target, svl_bits=svl_bits) if target.svl_bits else target


def cpu_machine() -> str:
    """The processor family in the words of `Target.machine`."""
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


@lru_cache(maxsize=1)
def cpu_features() -> frozenset[str]:
    """The features of this CPU, named as in /proc/cpuinfo. Empty where nobody can tell."""
    if sys.platform == "darwin":
        found = {"asimd"} if cpu_machine() == "aarch64" else set()
        for key, feature in _SYSCTL.items():
            answer = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False)
            if answer.stdout.strip() == "1":
                found.add(feature)
        return frozenset(found)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(
        word
        for line in lines
        if line.split(":")[0].strip().lower() in ("flags", "features")
        for word in line.partition(":")[2].split()
    )


def runs_here(target: Target) -> str | None:
    """None where this machine runs `target`, else the reason why not, in one clause."""
    machine = cpu_machine()
    if target.machine not in ("any", machine):
        return f"{target.name} needs an {target.machine} processor and this one is {machine}"
    missing = [feature for feature in target.needs if feature not in cpu_features()]
    return f"this processor has no {', '.join(missing)}" if missing else None


def best_target() -> Target:
    """The first target of the table that this machine runs; `scalar` runs everywhere."""
    return next(target for target in TARGETS.values() if runs_here(target) is None)
