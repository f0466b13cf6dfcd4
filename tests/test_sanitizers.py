"""Generated C under AddressSanitizer and UBSan: no access outside an array of the arena, nothing undefined."""

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
from eegen.run.compiled import Output
from eegen.run.data import build_dataset
from eegen.run.emulated import EmulatedEngine
from eegen.run.infer_session import InferSession
from eegen.run.session import Session
from eegen.run.sources import source_of
from eegen.targets import TARGETS
from eegen.toolchain.cached_compilation import build
from eegen.toolchain.compiler_search import find_compiler

FLAGS = ("-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quiet_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that lives as long as the process is not lost; looking for it needs rights that containers lack."""
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")


def guarded(source: str) -> str:
    """The program with 4 KiB before each array of the arena that must not be accessed."""
    source, gaps = re.subn(r"\(n \+ 63\) & ~\(int64_t\)63;", "((n + 63) & ~(int64_t)63) + 4096;", source)
    source, slots = re.subn(r" = (\(at \+ 4095\) & ~\(int64_t\)4095);", r" = (\1) + 4096;", source)
    poison = (
        "__asan_poison_memory_region((char *)s + s->bytes - 4096, 4096);"
        "for (int64_t *at = &s->at_starts; at < s->at_slot + SLOTS; at++)"
        " __asan_poison_memory_region((char *)s + *at - 4096, 4096);"
    )
    laid_out = r"(memcpy\(s, &u, HEADER_BYTES\);|s = map_file\(file, bytes\);)"
    source, arenas = re.subn(laid_out, rf"\1 {poison}", source)
    assert (gaps, arenas) == (1, 1) and slots
    return "#include <sanitizer/asan_interface.h>\n" + source


def sanitized(config: BuildConfig, output: Output = "server") -> Path:
    target = TARGETS[config.target]
    source = guarded(source_of(make_plan(config), output, config.name))
    try:
        return build(source, "", target, find_compiler(), "program", config.name + "-sanitized", FLAGS).path
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
