"""What a compiler made of generated C: the instructions of each function, by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# The first pattern that fits decides; a line is "mnemonic operands", AT&T order on x86.
_VECTOR = r"[^,]*(?:%[xyz]mm|\b[qvdsz]\d+\b|\{)"
KINDS: dict[str, tuple[tuple[str, str], ...]] = {
    "x86_64": (
        ("FMA", r"vfn?m(add|sub)"),
        ("load", r"v?(mov\w*|p?broadcast\w*|gather\w*|lddqu) [^%]*\(.*%[xyz]mm\d+"),
        ("store", r"v?(mov\w*|p?extr\w*|scatter\w*|compress\w*) .*%[xyz]mm\d+, ?[^%]*\("),
        ("shuffle", r"v?(p?(perm|shuf|unpck|broadcast|insert|extract|blend|align|expand)|mov[slhd]+dup|mov[lh]+ps)"),
        ("arithmetic", r"v|.*%xmm"),
        ("branch", r"(j\w+|call\w*|ret\w*)\b"),
        ("scalar", r""),
    ),
    "aarch64": (
        ("FMOPA", r"fmop[as]"),
        ("switch", r"smst(art|op)"),
        ("FMA", r"fn?m(la|ls|add|sub|ad|sb)\b"),
        ("load", r"ld\w+ " + _VECTOR),
        ("store", r"st\w+ " + _VECTOR),
        ("shuffle", r"(dup|ext|zip|uzp|trn|tbl|ins|rev|mova?)\d?\b.*(\b[vz]\d+\.|\bza)"),
        ("arithmetic", r"(f\w+|\w+ [vz]\d+\.)"),
        ("branch", r"(b(\.\w+)?|bl|blr|br|cbn?z|tbn?z|ret)\b"),
        ("scalar", r""),
    ),
}  # fmt: skip


def functions(assembly: str) -> dict[str, str]:
    """The text of each function, by name, without directives and comments."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in assembly.splitlines():
        code = re.split(r"\s*(?:##|//|;|# )", line, maxsplit=1)[0].rstrip()
        if label := re.match(r"_?([A-Za-z]\w*):$", code):
            name = label[1]
            found[name] = []
        elif re.match(r"\.?L(func_end|func_begin)", code):
            name = "" if "end" in code else name
        elif name and re.match(r"\.?L\w+:$", code):
            found[name].append(code)
        elif name and re.match(r"\s+[a-z{]", code):
            found[name].append("    " + re.sub(r"\s+", " ", code.strip()))
    return {name: "\n".join(lines) for name, lines in found.items() if lines}


def count(text: str, machine: str) -> Counter[str]:
    """Instructions of a function by kind."""
    patterns = [(kind, re.compile(pattern)) for kind, pattern in KINDS[machine]]
    lines = (line.strip() for line in text.splitlines() if line.startswith(" "))
    return Counter(next(kind for kind, pattern in patterns if pattern.match(line)) for line in lines)


def kinds_of(counts: Iterable[Counter[str]], machine: str) -> list[str]:
    """The kinds that occur, in the order of the table."""
    seen = set().union(*counts)
    return [kind for kind, _ in KINDS[machine] if kind in seen]
