"""x86-64 with AVX-512: 32 registers of 16 floats."""

from eegen.targets.x86 import SHARED, X86

TARGET = X86(
    **SHARED,
    name="avx512",
    vocabulary="avx512",
    quads_vocabulary="avx512",
    lanes=16,
    registers=32,
    pairs_scalars=True,
    flags=("-march=x86-64-v4", "-mprefer-vector-width=512"),
    needs=("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
)
