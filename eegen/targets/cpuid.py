"""Where an x86-64 processor says that it has a feature, for programs that ask it before they use the feature."""

from __future__ import annotations

from typing import NamedTuple

YMM_STATE, ZMM_STATE = 0x06, 0xE6


class Feature(NamedTuple):
    """The word of CPUID with the bit of a feature, and the registers (bits of XCR0) that the system has to save."""

    name: str
    leaf: int
    word: str
    state: int


FEATURES = {
    feature.name: feature
    for feature in (
        Feature("fma", 1, "ecx", YMM_STATE),
        Feature("avx2", 7, "ebx", YMM_STATE),
        *(Feature(f"avx512{part}", 7, "ebx", ZMM_STATE) for part in ("f", "bw", "cd", "dq", "vl")),
    )
}
