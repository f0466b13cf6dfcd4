"""What the x86-64 targets share."""

from __future__ import annotations

from typing import Any

from eegen.targets.base import Target
from eegen.targets.cpuid import FEATURES, Feature

# AT&T order: the destination comes last.
ASSEMBLY = (
    ("FMA", r"vfn?m(add|sub)"),
    ("load", r"v?(mov\w*|p?broadcast\w*|gather\w*|lddqu) [^%]*\(.*%[xyz]mm\d+"),
    ("store", r"v?(mov\w*|p?extr\w*|scatter\w*|compress\w*) .*%[xyz]mm\d+, ?[^%]*\("),
    ("shuffle", r"v?(p?(perm|shuf|unpck|broadcast|insert|extract|blend|align|expand)|mov[slhd]+dup|mov[lh]+ps)"),
    ("arithmetic", r"v|.*%xmm"),
    ("branch", r"(j\w+|call\w*|ret\w*)\b"),
    ("scalar", r""),
)


SHARED: dict[str, Any] = {
    "triple": "x86_64-linux-gnu",
    "machine": "x86_64",
    "systems": (("on Linux", ""), ("on a Mac", "-arch x86_64 ")),
    "debian_packages": ("gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"),
    "assembly": ASSEMBLY,
    "transposes_in_product": True,
}
"""Fields of both targets."""


class X86(Target):
    """x86-64: FMAs read one operand from memory, shuffles transpose panels on their way into a product."""

    @property
    def cpuid(self) -> tuple[Feature, ...]:
        return tuple(FEATURES[need] for need in self.needs)
