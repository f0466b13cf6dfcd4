"""64-bit Arm with SME2 (Apple M4 and later): products on ZA tiles in streaming mode, Neon for the rest."""

from .base import Target

TARGET = Target(
    name="sme2",
    isa="sme2",
    lanes=4,
    registers=32,
    lane_broadcast=True,
    flags=("-mcpu=apple-m4",),
    triple="aarch64-linux-gnu",
    machine="aarch64",
    needs=("sme2",),
    svl_bits=512,
)
