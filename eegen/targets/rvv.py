"""RISC-V with the vector extension 1.0: 32 registers, their length fixed when the code is built."""

from __future__ import annotations

from dataclasses import dataclass

from eegen.targets.base import Target

VECTOR_BITS = 256  # a power of two from 128 to 1024; the machine's vectors must have this length

ASSEMBLY = (
    ("FMA", r"v?fn?m(acc|sac|add|sub)\."),
    ("vsetvl", r"vset"),
    ("load", r"(vl\w*\.v|fl[wd])\b"),
    ("store", r"(vs\w*\.v|fs[wd])\b"),
    ("shuffle", r"v(slide\w*|rgather\w*|compress|f?merge|f?mv)\."),
    ("arithmetic", r"[vf]\w+\."),
    ("branch", r"(b\w+|j\w*|call|tail|ret)\b"),
    ("scalar", r""),
)


@dataclass(frozen=True)
class Rvv(Target):
    """Vectors of one register each. FMAs take a scalar of A from a floating-point register."""

    @property
    def machine_bits(self) -> str:
        return "rvv_vector_bits()"


TARGET = Rvv(
    name="rvv",
    vocabulary="rvv",
    lanes=VECTOR_BITS // 32,
    registers=32,
    flags=(f"-march=rv64gcv_zvl{VECTOR_BITS}b", f"-mrvv-vector-bits={VECTOR_BITS}"),
    triple="riscv64-linux-gnu",
    machine="riscv64",
    needs=("v",),
    clang=18,
    apple_clang=18,
    emulated_cpu=f"rv64,v=true,vext_spec=v1.0,vlen={VECTOR_BITS}",
    debian_packages=("gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross"),
    assembly=ASSEMBLY,
)
