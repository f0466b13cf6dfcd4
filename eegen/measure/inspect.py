"""The kernels of a model: shape, tile, FLOPs and bytes of each, its C, and the instructions that it compiles to."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from eegen.measure import assembly
from eegen.models.config import ModelConfig
from eegen.plan.kernels.kernel import Kernel
from eegen.plan.records import Plan
from eegen.run.model_builds import compile_model
from eegen.targets import cpu_machine

# Assembly with a function for each kernel: the vector vocabulary is declared inline, kernels are not.
ASSEMBLY_FLAGS = ("-S", "-finline-hint-functions")


@dataclass(frozen=True)
class Row:
    """One kernel. Bytes are those of a row of every row buffer it is called with, and of its weights and gradients."""

    name: str
    shape: str
    tile: str
    flops: int  # a row (a key, for attention)
    row_bytes: int
    weight_bytes: int
    calls: int
    used_by: list[str]  # the values that it computes
    instructions: Counter[str]


@dataclass(frozen=True)
class Report:
    plan: Plan
    machine: str
    sections: dict[str, str]  # of the C, by name
    functions: dict[str, str]  # of the assembly, by name
    rows: list[Row]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.plan.build.name,
            "target": self.plan.target.name,
            "params": self.plan.count,
            "sections": list(self.sections),
            "kernels": [
                {
                    "name": row.name,
                    "shape": row.shape,
                    "tile": row.tile,
                    "flops": row.flops,
                    "row_bytes": row.row_bytes,
                    "weight_bytes": row.weight_bytes,
                    "calls": row.calls,
                    "used_by": row.used_by,
                    "instructions": dict(row.instructions),
                }
                for row in self.rows
            ],
        }


def inspect(
    config: ModelConfig,
    target: str = "auto",
    svl_bits: int | None = None,
    cc: str | None = None,
    optimizer: str = "adam",
) -> Report:
    """Compile a model to assembly; return its kernels with their C and their instructions."""
    compiled = compile_model(
        config, target, optimizer=optimizer, svl_bits=svl_bits, cc=cc, kind="object", flags=ASSEMBLY_FLAGS
    )
    plan = compiled.plan
    machine = cpu_machine() if plan.target.machine == "any" else plan.target.machine
    sections = sections_of(compiled.build.source_path.read_text(encoding="utf-8"))
    functions = assembly.functions(compiled.build.path.read_text(encoding="utf-8", errors="replace"))
    rows = [_row(plan, kernel, sections, functions, machine) for kernel in plan.kernels]
    return Report(plan, machine, sections, functions, rows)


def sections_of(source: str) -> dict[str, str]:
    """The sections of a generated file by the name in their heading; what comes before the first is `contents`."""
    pieces = re.split(r"^/\* ==== \d+ (\w+) =+ \*/\n", source, flags=re.MULTILINE)
    return {"contents": pieces[0], **dict(zip(pieces[1::2], pieces[2::2]))}


def functions_in(section: str, functions: dict[str, str]) -> list[str]:
    """The names of the compiled functions that a section of the C defines, in the order of the file."""
    defined = re.findall(r"^[\w ]*?\**(\w+)\([^;]*?\)\s*\{", section, flags=re.MULTILINE)
    return [name for name in dict.fromkeys(defined) if name in functions]


def _row(plan: Plan, kernel: Kernel, sections: dict[str, str], functions: dict[str, str], machine: str) -> Row:
    texts = [functions[f] for f in functions_in(sections.get(kernel.name, ""), functions)]
    return Row(
        name=kernel.name,
        shape=kernel.shape,
        tile=kernel.tiling,
        flops=kernel.flops.row or kernel.flops.key,
        row_bytes=kernel.bytes.row,
        weight_bytes=kernel.bytes.once,
        used_by=plan.users(kernel),
        calls=sum(call.kernel == kernel for call in plan.train.calls) if plan.train else 0,
        instructions=sum((assembly.count(text, machine) for text in texts), Counter()),
    )
