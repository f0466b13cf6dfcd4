"""x86-64 with AVX-512: 32 registers of 16 floats."""

from eegen.targets.base import Target

TARGET = Target(
    name="avx512",
    isa="avx512",
    lanes=16,
    registers=32,
    turns=True,
    pairs=True,
    flags=("-march=x86-64-v4", "-mprefer-vector-width=512"),
    triple="x86_64-linux-gnu",
    machine="x86_64",
    needs=("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
)
