"""The entries of programs in C: prototypes for a host, and calls for a program that serves them."""

from __future__ import annotations

from eegen.emit.functions import C_TYPES
from eegen.plan.programs import MACHINE_ENTRIES, PROGRAMS, Entry
from eegen.plan.records import Plan

PRINTED = {"int64_t": '"%" PRId64 "\\n"', "float": r'"%.9g\n"', "double": r'"%.17g\n"'}
"""C formats that keep every bit of a returned number."""

ENTRIES: dict[str, Entry] = {
    entry.name: entry for entries in (*(p.entries for p in PROGRAMS.values()), MACHINE_ENTRIES) for entry in entries
}


def entries_of(plan: Plan) -> list[Entry]:
    """What the C file of a plan exports."""
    return [entry for program in plan.programs for entry in program.program.entries] + list(MACHINE_ENTRIES)


def return_type(entry: Entry) -> str:
    return C_TYPES[entry.returns.name] if entry.returns else "void"


def prototype(entry: Entry) -> str:
    arena = ["void *arena"] if entry.on_arena else []
    parameters = ", ".join([*arena, *(f"int64_t {name}" for name in entry.parameters)])
    return f"{return_type(entry)} {entry.name}({parameters or 'void'})"


def served_call(entry: Entry) -> str:
    """The C call on arena `s` and arguments `a`."""
    arena = ["s"] if entry.on_arena else []
    return f"{entry.name}({', '.join([*arena, *(f'a[{i}]' for i in range(len(entry.parameters)))])})"


def printed_format(entry: Entry) -> str:
    """The C format that prints what an entry returns; empty if it returns nothing."""
    return PRINTED.get(return_type(entry), "")


def parse(entry: Entry, answer: str) -> int | float | None:
    """The value that a serving program printed."""
    if entry.returns is None:
        return None
    return int(answer) if entry.returns.name.startswith("i") else float(answer)


def declarations() -> str:
    """The prototypes of all entries of all programs, as a C header would hold them."""
    return "".join(f"{prototype(entry)};\n" for entry in ENTRIES.values())
