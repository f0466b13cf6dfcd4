"""What a compiler made of generated C: the instructions of each function, by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from eegen.targets import target_of_machine


def patterns(machine: str) -> list[tuple[str, re.Pattern[str]]]:
    """The kinds of instructions of a machine; the first pattern that fits a line decides."""
    target = target_of_machine(machine)
    return [(kind, re.compile(pattern)) for kind, pattern in (target.assembly if target else (("instruction", ""),))]


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
    kinds = patterns(machine)
    lines = (line.strip() for line in text.splitlines() if line.startswith(" "))
    return Counter(next(kind for kind, pattern in kinds if pattern.match(line)) for line in lines)


def kinds_of(counts: Iterable[Counter[str]], machine: str) -> list[str]:
    """The kinds that occur, in the order of the table."""
    seen = set().union(*counts)
    return [kind for kind, _ in patterns(machine) if kind in seen]
