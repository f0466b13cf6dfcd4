"""Every target and every kind of output, built by every compiler, trains: libraries, objects linked into another
program, and standalone programs."""

from __future__ import annotations

import functools
import mmap
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from compilers import COMPILERS, need_compiler
from machines import EACH_TARGET, Machine, parameters

from eegen.emit.entries import ENTRIES, entries_of, parse, printed_format, prototype, served_call
from eegen.errors import EegenError
from eegen.models.config import ModelConfig
from eegen.plan.records import Plan
from eegen.run.data import build_dataset
from eegen.run.engine import Engine, LibraryEngine
from eegen.run.header import Buffer, Header
from eegen.run.model_builds import compile_model
from eegen.run.session import Session
from eegen.targets import TARGETS, runs_here
from eegen.toolchain.compiler_flags import compile_commands
from eegen.toolchain.compiler_search import Compiler
from eegen.toolchain.emulators import emulator

CONFIG = ModelConfig(d_model=8, n_heads=2, block_size=4, vocab_size=6)
DOCUMENTS = ["abba", "cab", "dead", "bead", "ebb"]
STEPS = 20
RATES = (0.01 * (1 - np.arange(STEPS) / STEPS)).astype(np.float32)

# A program of another author around an object: calls one function on the arena in a file and prints what it returns.
HOST = r"""
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

%s

int main(int argc, char **argv)
{
    struct stat about;
    int64_t a[3] = { 0 };
    const int file = open(argv[1], O_RDWR);
    if (argc < 3 || file < 0 || fstat(file, &about)) return 1;
    void *s = mmap(0, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (s == MAP_FAILED) return 1;
    for (int i = 3; i < argc && i < 6; i++) a[i - 3] = atoll(argv[i]);
%s
    return 1;
}
"""


def host(plan: Plan) -> str:
    """The program's C for the entries that the object of a plan exports."""
    entries = entries_of(plan)
    calls = [
        f'    if (!strcmp(argv[2], "{entry.name}")) return printf({printed_format(entry)}, {served_call(entry)}) < 0;'
        if entry.returns
        else f'    if (!strcmp(argv[2], "{entry.name}")) return {served_call(entry)}, puts("0") < 0;'
        for entry in entries
    ]
    return HOST % ("\n".join(f"{prototype(entry)};" for entry in entries), "\n".join(calls))


class ProgramEngine(Engine):
    """An engine that starts a program for every call; the arena is a file that both map."""

    in_process = False

    def __init__(self, command: list[str], path: Path) -> None:
        self.command, self.path = command, path

    def allocate(self, header: Header) -> Buffer:
        self.path.write_bytes(header.memory.tobytes())
        size = int(self.call(header.layout_entry) or 0)
        with self.path.open("r+b") as file:
            file.truncate(size)
            return memoryview(mmap.mmap(file.fileno(), size))

    def call(self, function: str, *arguments: int) -> int | float | None:
        command = [*self.command, str(self.path), function, *map(str, arguments)]
        return parse(ENTRIES[function], subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def close(self) -> None:
        self.path.unlink()


def losses(plan: Plan, engine: Engine) -> np.ndarray:
    """The losses of a short run."""
    session = Session(plan, engine, build_dataset(DOCUMENTS, "abcde", CONFIG.block_size), batch=3, seed=7)
    session.init()
    found = session.train(RATES).copy()
    engine.close()
    return found


@functools.cache
def expected() -> np.ndarray:
    """The losses of the portable C, compiled by the compiler that everything else uses."""
    made = compile_model(CONFIG, "scalar")
    return losses(made.plan, LibraryEngine(made.build.path))


def run_library(machine: Machine, compiler: Compiler, folder: Path) -> np.ndarray:
    made = compile_model(CONFIG, machine.target, cc=str(compiler))
    return losses(made.plan, LibraryEngine(made.build.path))


def run_object(machine: Machine, compiler: Compiler, folder: Path) -> np.ndarray:
    target = TARGETS[machine.target]
    made = compile_model(CONFIG, machine.target, cc=str(compiler), kind="object")
    (folder / "host.c").write_text(host(made.plan))
    source, program = str(folder / "host.c"), str(folder / "host")
    commands = compile_commands(compiler, target, "program", source, program)
    commands[-1].insert(commands[-1].index("-o"), str(made.build.path))
    for command in commands:
        subprocess.run(command, check=True)
    return losses(made.plan, ProgramEngine([*emulator(target), program], folder / "arena"))


def run_program(machine: Machine, compiler: Compiler, folder: Path) -> np.ndarray:
    target = TARGETS[machine.target]
    made = compile_model(CONFIG, machine.target, cc=str(compiler), kind="program", chars="abcde")
    (folder / "data.txt").write_text("\n".join(DOCUMENTS))
    options = ["--data", str(folder / "data.txt"), "--steps", str(STEPS), "--seed", "7", "--batch", "3"]
    command = [*emulator(target), str(made.build.path), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), shlex.join(command)
    printed = re.findall(r"^step +\d+ of 20   loss ([\d.]+) ", done.stdout, re.MULTILINE)
    assert len(printed) == 10
    return np.array(printed, np.float32)


RUNS: dict[str, Callable[[Machine, Compiler, Path], np.ndarray]] = {
    "library": run_library,
    "object": run_object,
    "program": run_program,
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
@pytest.mark.parametrize("name", COMPILERS)
def test_every_output_trains(name: str, machine: Machine, kind: str, tmp_path: Path) -> None:
    machine.need()
    compiler = need_compiler(name)
    if kind == "library" and (reason := runs_here(TARGETS[machine.target])):
        with pytest.raises(EegenError, match="cannot run on this machine") as refused:
            compile_model(CONFIG, machine.target, cc=str(compiler))
        assert reason in str(refused.value)
        return
    found = RUNS[kind](machine, compiler, tmp_path)
    assert found == pytest.approx(expected()[1::2] if kind == "program" else expected(), abs=2e-4)
