"""RISC-V with the vector extension 1.0: 32 registers, of 256 bits unless another length is chosen."""

from __future__ import annotations

from dataclasses import replace

from eegen.targets.base import SystemFeature, Target

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


class Rvv(Target):
    """Vectors of one register each. FMAs take a scalar of A from a floating-point register."""

    @property
    def machine_bits(self) -> str:
        return "rvv_vector_bits()"

    def with_vector_bits(self, bits: int) -> Rvv:
        bits = bits or self.vector_bits
        flags = (f"-march=rv64gcv_zvl{bits}b", f"-mrvv-vector-bits={bits}")
        cpu = f"rv64,v=true,vext_spec=v1.0,vlen={bits}"
        quads = "rvv" if bits <= 512 else ""
        return replace(self, lanes=bits // 32, flags=flags, emulated_cpu=cpu, quads_vocabulary=quads)


TARGET = Rvv(
    name="rvv",
    vocabulary="rvv",
    lanes=8,
    registers=32,
    triple="riscv64-linux-gnu",
    machine="riscv64",
    needs=("v",),
    clang=18,
    apple_clang=18,
    feature=SystemFeature("V", "getauxval(AT_HWCAP) & 1UL << ('V' - 'A')"),
    systems=(("on Linux on RISC-V", ""),),
    debian_packages=("gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross"),
    assembly=ASSEMBLY,
    vector_lengths=(128, 256, 512, 1024),
).with_vector_bits(0)
