"""x86-64 with AVX2 and FMA: 16 registers of 8 floats."""

from eegen.targets.base import Target

TARGET = Target(
    name="avx2",
    isa="avx2",
    lanes=8,
    registers=16,
    turns=True,
    flags=("-march=x86-64-v3",),
    triple="x86_64-linux-gnu",
    machine="x86_64",
    needs=("avx2", "fma"),
)
