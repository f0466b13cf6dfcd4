"""64-bit Arm: 32 registers of 4 floats, FMAs by lane, loads of several neighbouring vectors."""

from __future__ import annotations

from math import ceil, inf
from typing import Any

from eegen.targets.base import Target

_VECTOR = r"[^,]*(?:\b[qvdsz]\d+\b|\{)"
ASSEMBLY = (
    ("FMOPA", r"fmop[as]"),
    ("switch", r"smst(art|op)"),
    ("FMA", r"fn?m(la|ls|add|sub|ad|sb)\b"),
    ("load", r"ld\w+ " + _VECTOR),
    ("store", r"st\w+ " + _VECTOR),
    ("shuffle", r"(dup|ext|zip|uzp|trn|tbl|ins|rev|mova?)\d?\b.*(\b[vz]\d+\.|\bza)"),
    ("arithmetic", r"(f\w+|\w+ [vz]\d+\.)"),
    ("branch", r"(b(\.\w+)?|bl|blr|br|cbn?z|tbn?z|ret)\b"),
    ("scalar", r""),
)


SHARED: dict[str, Any] = {
    "lanes": 4,
    "registers": 32,
    "triple": "aarch64-linux-gnu",
    "machine": "aarch64",
    "elf_flags": ("-mno-outline-atomics",),  # outlined atomics would be calls of a library
    "emulated_cpu": "max",
    "systems": (("on a Mac, on Linux on Arm", ""),),
    "debian_packages": ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
    "assembly": ASSEMBLY,
    "quads_vocabulary": "neon",
    "lane_operand": True,
    "update_vectors": 4,
    "inner_multiple": 4,
    "score_vectors": 8,
    "rows_multiple": 4,
    "outer_unroll": 4,
}
"""Fields of both targets."""


class Arm(Target):
    """64-bit Arm: a scalar of A is a lane of a vector loaded once for several steps; cost is executed instructions."""

    def unrollable_steps(self, k: int) -> int:
        return k

    def product_ahead(self, rows: int, vectors: int) -> int:
        """For how many steps a row's scalars are loaded at once: a pair of vectors where the registers suffice."""
        return 8 if rows * vectors + 2 * rows + min(vectors, 4) <= self.registers - 2 else 4

    def product_cost(self, rows: int, vectors: int) -> float:
        """Instructions for each FMA of an inner step.

        Up to four neighbouring vectors of B are one load, four more another and its address; one or two vectors of a
        row of A are one load.
        """
        fmas, ahead = rows * vectors, self.product_ahead(rows, vectors)
        spare = self.registers - fmas - rows * ahead // 4 - min(vectors, 4)
        return 1 + 1 / (ahead * vectors) + (2 * ceil(vectors / 4) - 1) / fmas if spare >= 2 else inf

    def outer_cost(self, rows: int, vectors: int) -> float:
        """The same for one row of A and B in a weight gradient, where neighbouring scalars of A are one load."""
        fmas = rows * vectors
        spare = self.registers - fmas - ceil(rows / 4) - vectors
        loads = ceil(rows / 16) + (rows <= 4) + ceil(vectors / 4)
        loads += 3 * (vectors == 1)  # a single vector is slow (measured)
        return 1 + (loads + 1) / fmas if spare >= 2 else inf


TARGET = Arm(
    **SHARED,
    name="neon",
    vocabulary="neon",
    product_template="kernels/product_neon.c.j2",
    outer_template="kernels/outer_neon.c.j2",
    body_fmas=512,
    flags=("-march=armv8-a", "-mtune=apple-m1"),
    needs=("asimd",),
)
