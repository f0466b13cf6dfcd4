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
from typing import Any

import numpy as np
import pytest
from compilers import COMPILERS, need_compiler
from machines import ARM, NATIVE, Machine, parameters

from eegen.errors import EegenError
from eegen.models.config import ModelConfig
from eegen.run.data import build_dataset
from eegen.run.engine import LibraryEngine
from eegen.run.model_builds import compile_model
from eegen.run.session import Session
from eegen.targets import TARGETS, runs_here
from eegen.toolchain.compiler_flags import compile_command
from eegen.toolchain.compiler_search import Compiler
from eegen.toolchain.emulators import emulator

CONFIG = ModelConfig(d_model=8, n_heads=2, block_size=4, vocab_size=6)
DOCUMENTS = ["abba", "cab", "dead", "bead", "ebb"]
STEPS = 20
RATES = (0.01 * (1 - np.arange(STEPS) / STEPS)).astype(np.float32)
FOREIGN = [machine for machine in ARM if machine.svl_bits is None]

# A program of another author around an object: calls one function on the arena in a file and prints what it returns.
HOST = r"""
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int64_t eegen_arena(void *s);
void eegen_init(void *s);
int64_t eegen_train(void *s, int64_t thread, int64_t steps);

int main(int argc, char **argv)
{
    struct stat about;
    const int file = open(argv[1], O_RDWR);
    if (argc < 3 || file < 0 || fstat(file, &about)) return 1;
    void *s = mmap(0, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (s == MAP_FAILED) return 1;
    if (!strcmp(argv[2], "eegen_arena")) printf("%" PRId64 "\n", eegen_arena(s));
    else if (!strcmp(argv[2], "eegen_init")) eegen_init(s), puts("0");
    else if (!strcmp(argv[2], "eegen_train")) printf("%" PRId64 "\n", eegen_train(s, atoll(argv[3]), atoll(argv[4])));
    else return 1;
    return 0;
}
"""


class ProgramEngine:
    """An engine that starts a program for every call; the arena is a file that both map."""

    def __init__(self, command: list[str], path: Path) -> None:
        self.command, self.path = command, path

    def allocate(self, header: np.ndarray) -> mmap.mmap:
        self.path.write_bytes(header.tobytes())
        size = int(self.call("eegen_arena"))
        with self.path.open("r+b") as file:
            file.truncate(size)
            return mmap.mmap(file.fileno(), size)

    def call(self, function: str, *numbers: int) -> int:
        command = [*self.command, str(self.path), function, *map(str, numbers)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def close(self) -> None:
        self.path.unlink()


def losses(plan: Any, engine: Any) -> np.ndarray:
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
    (folder / "host.c").write_text(HOST)
    host, program = str(folder / "host.c"), str(folder / "host")
    command = compile_command(compiler, target, "program", host, program)
    command.insert(command.index(host) + 1, str(made.build.path))
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
@pytest.mark.parametrize("machine", parameters([*NATIVE, *FOREIGN]))
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
