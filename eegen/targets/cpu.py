"""This machine's processor: its family and the features it reports."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_SYSCTL = {"hw.optional.arm.FEAT_SME2": "sme2", "hw.optional.avx2_0": "avx2", "hw.optional.fma": "fma"} | {
    f"hw.optional.avx512{part}": f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl")
}


def cpu_machine() -> str:
    """The processor family in the words of `Target.machine`."""
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


@lru_cache(maxsize=1)
def cpu_features() -> frozenset[str]:
    """The features of this CPU, named as in /proc/cpuinfo. Empty where the system does not report them."""
    if sys.platform == "darwin":
        found = {"asimd"} if cpu_machine() == "aarch64" else set()
        for key, feature in _SYSCTL.items():
            answer = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False)
            if answer.stdout.strip() == "1":
                found.add(feature)
        return frozenset(found)
    try:
        return features_of(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return frozenset()


def features_of(cpuinfo: str) -> frozenset[str]:
    """The features in the text of /proc/cpuinfo: flags (x86), Features (Arm), the letters and names of isa (RISC-V)."""
    found: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        key = key.strip().lower()
        if key in ("flags", "features"):
            found |= set(value.split())
        elif key == "isa" and (match := re.match(r"rv(?:32|64)([a-z]+)(.*)", value.strip().lower())):
            found |= set(match[1].replace("g", "imafd")) | set(match[2].split("_")) - {""}
    return frozenset(found)
