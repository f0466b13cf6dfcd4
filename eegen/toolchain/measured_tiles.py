"""Register tiles that were measured to be faster than the machine model's, kept in the user's cache for later builds.

One file for each target, CPU and compiler: a measurement on one says nothing about another.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from eegen.targets import Target
from eegen.targets.tiles import Choice
from eegen.toolchain import build_cache
from eegen.toolchain.compiler_search import Compiler

FORMAT = 1


@functools.cache
def cpu_model() -> str:
    """The model of this machine's CPU, as exactly as the system names it."""
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.machine()
    named = ("vendor_id", "cpu family", "model", "model name", "stepping", "CPU implementer", "CPU part", "CPU variant")
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    first = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    }
    return ", ".join(first[name] for name in named if name in first) or platform.machine()


def path(target: Target, compiler: Compiler) -> Path:
    """The file of a target on this CPU with that compiler."""
    key = hashlib.sha256(f"{FORMAT} {cpu_model()} {compiler.version}".encode()).hexdigest()[:16]
    return build_cache.cache_dir() / "tuned" / f"{target.name}-{key}.json"


def load(target: Target, compiler: Compiler) -> dict[str, Choice]:
    """The tile of each measured shape; tiles that do not fit the target's registers are left out."""
    try:
        kept = json.loads(path(target, compiler).read_bytes())["tiles"]
        tiles = {str(shape): (int(rows), int(vectors), int(unroll)) for shape, (rows, vectors, unroll) in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {shape: tile for shape, tile in tiles.items() if fits(target, shape, tile)}


def fits(target: Target, shape: str, tile: Choice) -> bool:
    """Whether the tile's accumulators and operands fit the target's registers."""
    rows, vectors, unroll = tile
    if not (1 <= rows <= 16 and 1 <= vectors <= 16 and 1 <= unroll <= 1024) or not target.measures_tiles:
        return False
    return isfinite((target.outer_cost if shape.startswith("outer") else target.product_cost)(rows, vectors))


def save(target: Target, compiler: Compiler, tiles: Mapping[str, Choice]) -> Path:
    """Keep the tiles and return their file."""
    file = path(target, compiler)
    facts = {
        "cpu": cpu_model(),
        "compiler": compiler.version,
        "target": target.name,
        "tiles": dict(sorted(tiles.items())),
    }
    build_cache.write_atomically(file, json.dumps(facts, indent=1) + "\n")
    return file


def forget() -> list[Path]:
    """Delete all that was measured, for every target; returns the deleted files."""
    gone = sorted((build_cache.cache_dir() / "tuned").glob("*.json"))
    for file in gone:
        with contextlib.suppress(OSError):
            file.unlink()
    return gone
