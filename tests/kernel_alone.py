"""Kernels compiled alone: a program of some kernels of a target, each called with NumPy arrays.

The program maps a file: calls with their arguments, then arrays, with guards between them. So every machine is tested
the same way, emulated or not, and a write past an array is found.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from machines import Machine

from eegen.emit import arena
from eegen.emit.lines import fit
from eegen.emit.source import environment
from eegen.plan.kernels.kernel import Kernel
from eegen.targets import TARGETS, Target
from eegen.toolchain.cached_compilation import build
from eegen.toolchain.compiler_search import find_compiler
from eegen.toolchain.emulators import emulator

SPANS = ("range", "span", "positions", "levels")
NUMBERS = ("count", "capacity", "thread", "partial")
SLOTS = 32  # numbers of a call: which kernel, or what it returned, and its arguments
CALLS = 255  # at a time
GUARD = 1 << 16  # bytes after each array: NaN to a kernel that reads past the end, as all may, and must not use it

SOURCE = """\
{% include "vocabulary/" ~ target.vocabulary ~ ".c.j2" %}
{% if target.quads_vocabulary %}
{% include "vocabulary/attention_" ~ target.quads_vocabulary ~ ".c.j2" %}
{% endif %}
typedef struct eegen {
{% for f in fields %}
    {{ types[f.type] }} {{ f.name }}{{ '[%d]' % f.length if f.length > 1 }};
{% endfor %}
{% for a in arrays %}
    int64_t at_{{ a.name }};
{% endfor %}
    int64_t at_slot[1];
    uint64_t kernel_ticks[1];
} eegen;
typedef struct span { int64_t lo, hi; } span;
typedef struct rates rates;
static inline int32_t *index_of(const eegen *s, int64_t at) { return (int32_t *)((char *)s + at); }
static inline int64_t *longs_of(const eegen *s, int64_t at) { return (int64_t *)((char *)s + at); }
static inline float *floats_of(const eegen *s, int64_t at) { return (float *)((char *)s + at); }
{{ prelude }}
{% include "parts/scalars.c.j2" %}
{% for k in kernels %}
{% include k.template %}
{% endfor %}

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const int file = open(argv[argc - 1], O_RDWR);
    struct stat facts;
    if (file < 0 || fstat(file, &facts)) return 2;
    char *memory = mmap(0, (size_t)facts.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return 3;
    const int64_t *head = (const int64_t *)memory;
    if (head[1] != sizeof(eegen)) return 4;
    for (int64_t call = 1; call <= head[0]; call++) {
        int64_t *a = (int64_t *)memory + {{ slots }} * call;
        switch (a[0]) {
{% for k in kernels %}
        case {{ loop.index0 }}:
            {{ "*(double *)a = " if k.returns != "void" }}{{ k.name }}({{ arguments(k) | join(", ") }});
            break;
{% endfor %}
        default: return 5;
        }
    }
    return msync(memory, (size_t)facts.st_size, MS_SYNC) ? 6 : 0;
}
"""
TYPES = {"i8": "int64_t", "u8": "uint64_t", "f8": "double"}


def target_of(machine: Machine) -> Target:
    target = TARGETS[machine.target]
    return target.with_vector_bits(machine.svl_bits) if machine.svl_bits else target


class Alone:
    """Some kernels in a program of `machine`; `prelude` is C that they need besides the vocabulary."""

    def __init__(self, machine: Machine, kernels: Sequence[Kernel], folder: Path, prelude: str = "") -> None:
        machine.need()
        self.target, self.folder = target_of(machine), folder
        self.kernels = [replace(kernel, name=kernel.name or kernel.stem) for kernel in kernels]
        self.header = arena.header_dtype(1, 1)
        self.memory = _Memory(self.header)
        text = (
            environment()
            .from_string(SOURCE)
            .render(
                target=self.target,
                kernels=self.kernels,
                prelude=prelude,
                fields=arena.FIELDS,
                arrays=arena.ARRAYS,
                types=TYPES,
                profile=False,
                plan=SimpleNamespace(has_loops=False),
                arguments=_arguments,
                slots=SLOTS,
            )
        )
        made = build(fit(text), "", self.target, find_compiler(), "program", f"alone-{self.target.name}")
        self.command = [*emulator(self.target), str(made.path)]

    def call(self, kernel: Kernel, state: Mapping[str, Any] | None = None, /, **values: Any) -> float:
        """Call `kernel`; arrays are arguments by parameter name and are written in place, a range is lo=, hi=.

        `state`: the fields of the arena's header that the kernel reads; arrays for the fields at_<name>.
        Returns what the kernel returns, or 0.
        """
        self.queue(kernel, state, **values)
        return self.run()[0]

    def queue(self, kernel: Kernel, state: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """The same, but called with others by the next `run`."""
        numbers: list[int] = []
        for param in kernel.params:
            if param.kind == "range":
                numbers += [values.pop("lo"), values.pop("hi")]
            elif param.kind in SPANS:
                numbers += list(values.pop(param.name))
            elif param.kind in NUMBERS:
                numbers.append(values.pop(param.name))
            elif param.kind == "state":
                numbers.append(self.memory.add_state(dict(state or {})))
            else:
                array = values.pop(param.name)
                numbers.append(-1 if array is None else self.memory.add(array))
        assert not values, f"{kernel.name} has no parameters {', '.join(values)}"
        self.memory.add_call(self.kernels.index(kernel), numbers)

    def run(self) -> list[float]:
        """All calls in their order, in one process. Returns what they return."""
        memory, self.memory = self.memory, _Memory(self.header)
        path = self.folder / "memory"
        memory.write(path)
        subprocess.run([*self.command, str(path)], check=True, timeout=300)
        memory.read_back(path)
        return memory.calls[1 : memory.calls[0, 0] + 1, 0].copy().view(np.float64).tolist()


def program_fixture(make: Callable[..., Alone]) -> Any:
    """Make a function of a machine, perhaps a kind of kernels, and a folder the fixture of a module's programs.

    A test calls the fixture without the folder; each program is compiled once.
    """

    @pytest.fixture(scope="module")
    def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Alone]:
        return cache(lambda *key: make(*key, tmp_path_factory.mktemp("alone")))

    return program


def _arguments(kernel: Kernel) -> list[str]:
    """The C arguments of a call, from the numbers after the first."""
    words, at = [], 1
    for param in kernel.params:
        if param.kind == "range":
            words += [f"a[{at}]", f"a[{at + 1}]"]
        elif param.kind in SPANS:
            words.append(f"(span){{ a[{at}], a[{at + 1}] }}")
        elif param.kind in NUMBERS:
            words.append(f"a[{at}]" if param.kind != "partial" else f"(int)a[{at}]")
        else:
            words.append(f"a[{at}] < 0 ? 0 : (void *)(memory + a[{at}])")
        at += 2 if param.kind in SPANS else 1
    return words


class _Memory:
    """The file of some calls: their number and the size of a header, the calls, then arrays, a guard after each."""

    def __init__(self, header: np.dtype) -> None:
        self.calls = np.zeros((CALLS + 1, SLOTS), np.int64)
        self.calls[0, 1] = header.itemsize
        self.header = header
        self.size = self.calls.nbytes
        self.arrays: dict[int, tuple[int, np.ndarray]] = {id(self.calls): (0, self.calls)}

    def add_call(self, kernel: int, numbers: list[int]) -> None:
        self.calls[0, 0] += 1
        self.calls[self.calls[0, 0], : len(numbers) + 1] = [kernel, *numbers]

    def add(self, array: np.ndarray) -> int:
        """The place of an array; the same for the same array."""
        assert array.flags.c_contiguous
        if id(array) not in self.arrays:
            at = -(-(self.size + GUARD) // 64) * 64
            self.arrays[id(array)] = (at, array)
            self.size = at + array.nbytes
        return self.arrays[id(array)][0]

    def add_state(self, state: dict[str, Any]) -> int:
        header = np.zeros(1, self.header)
        place = self.add(header)
        for name, value in state.items():
            header[name] = self.add(value) - place if name.startswith("at_") else value
        return place

    def write(self, path: Path) -> None:
        image = np.full((self.size + GUARD) // 4, np.nan, np.float32).view(np.uint8)
        for at, array in self.arrays.values():
            image[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
        image.tofile(path)

    def read_back(self, path: Path) -> None:
        image = np.fromfile(path, np.uint8)
        guard = np.full(1, np.nan, np.float32).view(np.uint8)
        places = list(self.arrays.values())
        ends = [at for at, _ in places[1:]] + [image.size]
        for (at, array), end in zip(places, ends, strict=True):
            stop = at + array.nbytes
            after = image[stop:end]
            assert np.array_equal(after, np.resize(guard, after.size)), f"written past an array of {array.shape}"
            array[...] = image[at:stop].view(array.dtype).reshape(array.shape)
