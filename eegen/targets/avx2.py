"""x86-64 with AVX2 and FMA: 16 registers of 8 floats."""

from eegen.targets.x86 import SHARED, X86

TARGET = X86(
    **SHARED,
    name="avx2",
    vocabulary="avx2",
    quads_vocabulary="avx2",
    lanes=8,
    registers=16,
    flags=("-march=x86-64-v3",),
    needs=("avx2", "fma"),
    emulated_cpu="max",
)
