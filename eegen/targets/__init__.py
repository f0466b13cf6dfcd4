"""The instruction sets eegen writes C for, best first, and which of them this machine runs."""

from __future__ import annotations

from eegen.targets import avx2, avx512, neon, rvv, scalar, sme2
from eegen.targets.base import Target
from eegen.targets.cpu import cpu_features, cpu_machine
from eegen.targets.tiles import Panel, Tile

__all__ = [
    "TARGETS",
    "Panel",
    "Target",
    "Tile",
    "best_target",
    "cpu_features",
    "cpu_machine",
    "runs_here",
    "target_of_machine",
]

TARGETS: dict[str, Target] = {file.TARGET.name: file.TARGET for file in (sme2, avx512, avx2, neon, rvv, scalar)}


def target_of_machine(machine: str) -> Target | None:
    """A target of that processor family, for what all targets of the family share; None where there is none."""
    return next((target for target in TARGETS.values() if target.machine == machine), None)


def runs_here(target: Target) -> str | None:
    """None where this machine runs `target`, else the reason why not, in one clause."""
    machine = cpu_machine()
    if target.machine not in ("any", machine):
        article = "an" if target.machine[0] in "aex" else "a"
        return f"{target.name} needs {article} {target.machine} processor and this one is {machine}"
    missing = [feature for feature in target.needs if feature not in cpu_features()]
    return f"this processor has no {', '.join(missing)}" if missing else None


def best_target() -> Target:
    """The first target of the table that this machine runs; `scalar` runs everywhere."""
    return next(target for target in TARGETS.values() if runs_here(target) is None)
