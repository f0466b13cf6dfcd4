"""Generated C under sanitizers: no access outside an array of the arena, nothing undefined.

clang has AddressSanitizer and UBSan, and the 4 KiB before each array are poisoned. zig has UBSan only: there a page
before each array is protected, so that what leaves an array by a page or more ends the program.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from machines import NATIVE, Machine, missing
from test_targets import CASES, LETTERS, MANY, Case

from eegen.errors import EegenError
from eegen.plan.build_config import BuildConfig
from eegen.plan.planner import make_plan
from eegen.resources import resource
from eegen.run.data import build_dataset
from eegen.run.emulated import EmulatedEngine
from eegen.run.infer_session import InferSession
from eegen.run.model_builds import Output
from eegen.run.session import Session
from eegen.run.sources import source_of
from eegen.targets import TARGETS
from eegen.toolchain.cached_compilation import build
from eegen.toolchain.compiler_search import find_compiler

FLAGS = {
    "clang": ("-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    "zig": ("-O1", "-g1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
}
GAP = {"clang": 4096, "zig": 8192}  # bytes before each array; the second holds a whole page
FORBID = {
    "clang": "__asan_poison_memory_region((char *)s + {end} - 4096, 4096);",
    "zig": "mprotect((void *)(((uintptr_t)s + (uintptr_t)({end}) - 4096) & ~(uintptr_t)4095), 4096, PROT_NONE);",
}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quiet_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that lives as long as the process is not lost; looking for it needs rights that containers lack."""
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")


def guarded(source: str, kind: str) -> str:
    """The program with a gap before each array of the arena that may not be accessed."""
    gap = GAP[kind]
    source, gaps = re.subn(r"\(n \+ 63\) & ~\(int64_t\)63;", f"((n + 63) & ~(int64_t)63) + {gap};", source)
    source, slots = re.subn(r" = (\(at \+ 4095\) & ~\(int64_t\)4095);", rf" = (\1) + {gap};", source)
    forbid = FORBID[kind].format(end="s->bytes")
    forbid += "for (int64_t *at = &s->at_starts; at < s->at_slot + SLOTS; at++) " + FORBID[kind].format(end="*at")
    laid_out = r"(memcpy\(s, &u, HEADER_BYTES\);|s = map_file\(file, bytes\);)"
    source, arenas = re.subn(laid_out, rf"\1 {forbid}", source)
    assert (gaps, arenas) == (1, 1) and slots
    return ("#include <sanitizer/asan_interface.h>\n" if kind == "clang" else "") + source


def sanitized(config: BuildConfig, output: Output = "server") -> Path:
    target, compiler = TARGETS[config.target], find_compiler()
    source = guarded(source_of(make_plan(config), output, config.name), compiler.kind)
    name = config.name + "-sanitized"
    try:
        return build(source, "", target, compiler, "program", name, FLAGS[compiler.kind]).path
    except EegenError as error:
        if "asan" in str(error) or "ubsan" in str(error):
            missing("this compiler has no sanitizers (Debian: libclang-rt-NN-dev)")
        raise


def test_a_sanitizer_sees_what_leaves_an_array() -> None:
    """The guard works: a batch that says it is longer than its arrays is caught."""
    config = BuildConfig(CASES[0].config, "scalar")
    with EmulatedEngine(sanitized(config), []) as engine:
        session = Session(make_plan(config), engine, build_dataset(["abc"], LETTERS, 16), batch=4)
        session.init()
        session.header.batch = 400
        with pytest.raises(EegenError):
            session.train(np.full(1, 0.01, np.float32))


@pytest.mark.parametrize("machine", NATIVE, ids=str)
@pytest.mark.parametrize("case", [*CASES, MANY], ids=str)
def test_sanitizers_find_nothing(case: Case, machine: Machine) -> None:
    machine.need()
    config = BuildConfig(case.config, machine.target)
    data = build_dataset(case.documents, case.chars, case.config.block_size)
    for sharing in (True, False):
        with EmulatedEngine(sanitized(config), []) as engine:
            session = Session(make_plan(config), engine, data, batch=len(case.documents), sharing=sharing)
            session.init()
            losses = session.train(np.full(4, 0.01, np.float32))
            assert np.isfinite(losses).all()
            session.gradient(np.arange(len(case.documents), dtype=np.int32))
            session.loss()
            infer = InferSession(session.plan, engine, case.config.block_size, 5)
            for name, weights in infer.parameters.items():
                weights[:] = session.parameters[name]
            infer.loss(data)
            infer.sample(7, 0.5, [0], 3)
            assert engine.process.poll() is None


@pytest.mark.parametrize("machine", NATIVE, ids=str)
def test_sanitizers_find_nothing_in_a_whole_run(machine: Machine) -> None:
    machine.need()
    program = sanitized(BuildConfig(CASES[0].config, machine.target), "program")
    command = [str(program), "--data", str(resource("names.txt")), "--steps", "30"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert (done.returncode, done.stderr) == (0, "")
    assert "mean loss of the last 30 steps" in done.stdout
