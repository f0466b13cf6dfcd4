"""64-bit Arm: 32 registers of 4 floats, FMAs by lane, loads in pairs."""

from .base import Target

TARGET = Target(
    name="neon",
    isa="neon",
    lanes=4,
    registers=32,
    lane_broadcast=True,
    body_fmas=256,
    flags=("-march=armv8-a", "-mtune=apple-m1"),
    triple="aarch64-linux-gnu",
    machine="aarch64",
    needs=("asimd",),
)
