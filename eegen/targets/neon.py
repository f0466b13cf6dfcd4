"""64-bit Arm: 32 registers of 4 floats, FMAs by lane, loads in pairs."""

from eegen.targets.base import Target

TARGET = Target(
    name="neon",
    isa="neon",
    lanes=4,
    registers=32,
    lane_broadcast=True,
    product_template="kernels/product_neon.c.j2",
    outer_template="kernels/outer_neon.c.j2",
    body_fmas=512,
    flags=("-march=armv8-a", "-mtune=apple-m1"),
    triple="aarch64-linux-gnu",
    machine="aarch64",
    needs=("asimd",),
)
