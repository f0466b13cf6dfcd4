"""The functions that generated C exports: one table for the host's declarations and for the serving program."""

from __future__ import annotations

from dataclasses import dataclass

FORMATS = {"int64_t": '"%" PRId64 "\\n"', "uint64_t": '"%" PRIu64 "\\n"', "float": r'"%.9g\n"', "double": r'"%.17g\n"'}
"""C formats that keep every bit of a returned number."""


@dataclass(frozen=True)
class Entry:
    """An exported function: its C return type, whether it works on an arena, and its further int64_t parameters."""

    name: str
    returns: str
    parameters: tuple[str, ...] = ()
    on_arena: bool = True

    @property
    def prototype(self) -> str:
        arena = ["void *arena"] if self.on_arena else []
        parameters = ", ".join([*arena, *(f"int64_t {name}" for name in self.parameters)])
        return f"{self.returns} {self.name}({parameters or 'void'})"

    @property
    def call(self) -> str:
        """The C call on arena `s` and arguments `a`."""
        arena = ["s"] if self.on_arena else []
        return f"{self.name}({', '.join([*arena, *(f'a[{i}]' for i in range(len(self.parameters)))])})"

    @property
    def format(self) -> str:
        """The C format that prints what it returns; empty if it returns nothing."""
        return FORMATS.get(self.returns, "")

    def parse(self, answer: str) -> int | float | None:
        """The value that a serving program printed."""
        if self.returns == "void":
            return None
        return int(answer) if self.returns.endswith("int64_t") else float(answer)


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("eegen_arena", "int64_t"),
        Entry("eegen_init", "void"),
        Entry("eegen_train", "int64_t", ("thread", "count")),
        Entry("eegen_loss", "double", ("n",)),
        Entry("eegen_gradient", "double", ("n",)),
        Entry("eegen_sample", "void", ("n",)),
        Entry("eegen_ticks", "uint64_t", on_arena=False),
        Entry("eegen_vector_bits", "int64_t", on_arena=False),
        Entry("eegen_machine_bits", "int64_t", on_arena=False),
        Entry("eegen_peak", "float", ("iterations",), on_arena=False),
        Entry("eegen_peak_flops", "int64_t", on_arena=False),
    )
}


def declarations() -> str:
    """The prototypes of all entries, as a C header would hold them."""
    return "".join(f"{entry.prototype};\n" for entry in ENTRIES.values())
