"""Standalone programs: what `main` prints, what it refuses, and the calls it answers for Python."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from compilers import COMPILERS, need_compiler
from machines import Machine, missing, sample

from eegen.emit.entries import ENTRIES, prototype
from eegen.errors import EegenError, EegenFailure
from eegen.models.config import ModelConfig
from eegen.resources import resource
from eegen.run.data import build_dataset, vocabulary
from eegen.run.emulated import EmulatedEngine
from eegen.run.infer_session import InferSession
from eegen.run.model_builds import Output, compile_model
from eegen.run.session import Session
from eegen.targets import TARGETS
from eegen.toolchain.compiler_flags import compile_command
from eegen.toolchain.emulators import emulator, find_qemu

CONFIG = ModelConfig(d_model=16)
STEPS = 40
MACHINES = [
    Machine("scalar"),
    Machine("avx2"),
    Machine("avx512"),
    pytest.param(Machine("neon"), marks=pytest.mark.slow),
    pytest.param(Machine("sme2"), marks=pytest.mark.slow),
    pytest.param(Machine("rvv"), marks=pytest.mark.slow),
]


def run(
    machine: Machine, *options: str, config: ModelConfig = CONFIG, chars: str = ""
) -> subprocess.CompletedProcess[str]:
    machine.need()
    program = compile_model(config, machine.target, svl_bits=machine.svl_bits, kind="program", chars=chars).build.path
    command = [*emulator(TARGETS[machine.target]), str(program), *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture(scope="module")
def data() -> str:
    return str(resource("names.txt"))


@pytest.mark.parametrize("order", ["random", "sequential"])
@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_a_seed_gives_the_losses_and_names_of_a_session(
    machine: Machine, order: str, data: str, names: list[str], letters: str, open_session: Callable[..., Session]
) -> None:
    done = run(machine, "--data", data, "--steps", str(STEPS), "--seed", "7", "--batch", "5", f"--order={order}")
    assert done.returncode == 0, done.stderr
    session = open_session(machine, CONFIG, names, letters, batch=5, seed=7, random=order == "random")
    losses = session.train((0.01 * (1 - np.arange(STEPS) / STEPS)).astype(np.float32))
    printed = re.findall(r"^step +(\d+) of 40   loss ([\d.]+) ", done.stdout, re.MULTILINE)
    assert [int(step) for step, _ in printed] == list(range(4, 41, 4))
    assert [loss for _, loss in printed] == [f"{losses[int(step) - 1]:.4f}" for step, _ in printed]
    assert f"mean loss of the last {STEPS} steps {losses.mean(dtype=np.float64):.4f}\n" in done.stdout
    assert re.search(
        r"^[\d.]+ us a step: batch [\d.]+, forward [\d.]+, backward [\d.]+, update [\d.]+$", done.stdout, re.M
    )
    samples = ["".join(letters[token] for token in tokens) for tokens in sample(machine, session, 10, 0.5, [], 7)]
    assert done.stdout.split("\n")[-11:] == [*samples, ""]


def test_it_finds_the_prefixes_that_python_finds(tmp_path: Path, data: str, names: list[str], letters: str) -> None:
    trie = build_dataset(names, letters, CONFIG.block_size)
    done = run(Machine("scalar"), "--data", data, "--steps", "1")
    counts = f"{len(names)} documents, {trie.positions} positions, {trie.n_nodes} prefixes"
    assert counts in done.stdout


def test_it_reads_characters_of_every_length_and_ends_of_every_kind(tmp_path: Path) -> None:
    text = "\ufeffémile\r\n  漢字\t\n\n\v😀a\rlast line"
    documents = ["émile", "漢字", "😀a", "last line"]
    chars = vocabulary(documents)
    (tmp_path / "data.txt").write_bytes(text.encode())
    config = ModelConfig(d_model=8, n_heads=2, block_size=4, vocab_size=len(chars) + 1)
    trie = build_dataset(documents, chars, config.block_size)
    done = run(Machine("scalar"), "--data", str(tmp_path / "data.txt"), "--steps", "300", config=config, chars=chars)
    assert f"4 documents, {trie.positions} positions, {trie.n_nodes} prefixes" in done.stdout
    assert {"émi", "漢字"} & {name[:3] for name in done.stdout.split("\n")[-11:]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty; give at least one line of text"),
        (b" \r\n\n", "is empty; give at least one line of text"),
        (b"ab\x00c\n", "is binary (a zero byte at offset 2)"),
        (b"ab\n\xff\n", "is not UTF-8: byte 0xff at offset 3, line 2"),
        (b"\xed\xa0\x80\n", "is not UTF-8: byte 0xed at offset 0, line 1"),
        (b"abc\xc3", "is not UTF-8: byte 0xc3 at offset 3, line 1"),
        ("anna\nzoé\n".encode(), "has the character 'é' (U+00E9), which is not among the 26 the model knows"),
    ],
)
def test_data_it_cannot_use_is_one_clear_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "data.txt"
    if content is not None:
        path.write_bytes(content)
    done = run(Machine("scalar"), "--data", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "--steps is '0'; it must be 1 to"),
        (["--steps", "10x"], "--steps is '10x'"),
        (["--batch", "4097"], "--batch is '4097'; it must be 1 to 4096"),
        (["--seed", "-1"], "--seed is '-1'"),
        (["--lr", "nan"], "--lr is 'nan'; it must be a number above 0"),
        (["--order", "up"], "--order is 'up'; it must be random or sequential"),
        (["--steps"], "--steps needs a value"),
        (["--step=3"], "unknown option '--step'"),
        (["--data", "."], "is a directory"),
        (["--serve", "file"], "unknown option '--serve'"),
    ],
)
def test_options_it_does_not_understand_are_one_clear_line(options: list[str], message: str) -> None:
    done = run(Machine("scalar"), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_loss_that_is_not_a_number_stops_it(data: str) -> None:
    done = run(Machine("scalar"), "--data", data, "--lr", "1e20", "--steps", "50")
    assert done.returncode == 2
    assert re.fullmatch(r"error: stopped at step \d+: the loss is (nan|inf); a lower --lr .* may help\n", done.stderr)


def warnings_of(compiler: str, machine: Machine, output: Output, folder: Path) -> None:
    target = TARGETS[machine.target]
    source = str(compile_model(CONFIG, target.name, kind=output).build.source_path)
    strict = ["-Wall", "-Wextra", "-Werror", "-fhosted", "-O0"]
    command = compile_command(need_compiler(compiler), target, "object", source, str(folder / "program.o"), strict)
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_have_nothing_to_warn_of(compiler: str, machine: Machine, tmp_path: Path) -> None:
    warnings_of(compiler, machine, "program", tmp_path)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_processor_without_the_instructions_is_refused(compiler: str) -> None:
    if (qemu := find_qemu("x86_64")) is None:
        missing("there is no QEMU")
    program = compile_model(CONFIG, "avx2", kind="program", cc=str(need_compiler(compiler))).build.path
    for cpu, refusal in {"max": "data file no does not exist", "max,-fma": "no fma", "max,-avx2": "no avx2"}.items():
        done = subprocess.run([qemu, "-cpu", cpu, str(program), "--data", "no"], capture_output=True, text=True)
        assert done.returncode == 2
        assert refusal in done.stderr
        assert done.stderr.count("\n") == 1


def test_scalar_c_is_for_any_compiler(tmp_path: Path, data: str) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        missing("no gcc on this machine")
    source = compile_model(CONFIG, "scalar", kind="program").build.source_path
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([gcc, *flags, str(source), "-o", str(tmp_path / "program"), "-lm"], check=True)
    done = subprocess.run([tmp_path / "program", "--data", data, "--steps", "20"], capture_output=True, text=True)
    ours = run(Machine("scalar"), "--data", data, "--steps", "20").stdout
    first = r"loss ([\d.]+) "
    assert [float(x) for x in re.findall(first, done.stdout)] == pytest.approx(
        [float(x) for x in re.findall(first, ours)], abs=2e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize(("target", "kind"), [("sme2", "streaming vectors"), ("rvv", "vectors")])
def test_vectors_of_another_length_are_refused(target: str, kind: str) -> None:
    Machine(target).need()
    built = TARGETS[target].vector_bits
    other = TARGETS[target].with_vector_bits(built // 2)
    if not emulator(other):
        pytest.skip("this machine has one length of vectors")
    program = compile_model(CONFIG, target, kind="program").build.path
    done = subprocess.run([*emulator(other), str(program), "--steps", "1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"built for {kind} of {built} bits and this machine's have {built // 2}" in done.stderr
    server = compile_model(CONFIG, target, kind="server").build.path
    with pytest.raises(EegenError, match=f"{built} bits and this machine's have {built // 2}") as error:
        EmulatedEngine(server, emulator(other))
    assert error.value.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize(("target", "cpu", "feature"), [("sme2", "max,sme=off", "SME"), ("rvv", "rv64,v=false", "V")])
def test_a_processor_without_the_vectors_is_refused(target: str, cpu: str, feature: str) -> None:
    Machine(target).need()
    if not (qemu := find_qemu(TARGETS[target].machine)):
        missing("there is no QEMU")
    program = compile_model(CONFIG, target, kind="program").build.path
    done = subprocess.run([qemu, "-cpu", cpu, str(program), "--steps", "1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"this program is for {target}, and this processor has no {feature}" in done.stderr


# --- calls from Python


@pytest.fixture
def engine() -> Iterator[EmulatedEngine]:
    program = compile_model(CONFIG, "scalar", kind="server").build.path
    with EmulatedEngine(program, []) as engine:
        yield engine


def test_serving_gives_what_the_library_gives(
    engine: EmulatedEngine, names: list[str], letters: str, open_session: Callable[..., Session]
) -> None:
    plan = compile_model(CONFIG, "scalar", kind="server").plan
    served = Session(plan, engine, build_dataset(names, letters, 16), batch=4)
    served.init()
    loaded = open_session(Machine("scalar"), CONFIG, names, letters, batch=4)
    lr = np.full(3, 0.01, np.float32)
    assert served.train(lr) == pytest.approx(loaded.train(lr), rel=1e-5)
    documents = np.arange(4, dtype=np.int32)
    assert served.gradient(documents) == pytest.approx(loaded.gradient(documents), rel=1e-5)
    assert served.counters.step == 3
    served.update(0.01)
    loaded.update(0.01)
    assert served.counters.step == loaded.counters.step == 4
    for name, weights in served.parameters.items():
        assert weights == pytest.approx(loaded.parameters[name], abs=1e-5)
    infer = InferSession(plan, engine, 16, 4)
    for name, weights in infer.parameters.items():
        weights[:] = loaded.parameters[name]
    assert infer.sample(3, 0.5, [0], 1) == sample(Machine("scalar"), loaded, 3, 0.5, [0], 1)


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_have_nothing_to_warn_of_in_a_server(compiler: str, machine: Machine, tmp_path: Path) -> None:
    warnings_of(compiler, machine, "server", tmp_path)


def test_servers_of_all_vocabularies_of_a_size_are_one_build() -> None:
    one, other = (compile_model(CONFIG, "scalar", kind="server", chars=chars) for chars in ("a" * 26, "b" * 26))
    assert one.build.path == other.build.path
    source = one.build.source_path.read_text(encoding="utf-8")
    assert "characters" not in source
    assert "usage" not in source


def test_a_server_without_a_file_to_share_is_refused(tmp_path: Path) -> None:
    program = compile_model(CONFIG, "scalar", kind="server").build.path
    done = subprocess.run([program, tmp_path / "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot be opened" in done.stderr


def test_every_exported_function_is_in_the_table_as_it_is_defined() -> None:
    source = compile_model(CONFIG, "scalar", kind="server").build.source_path.read_text(encoding="utf-8")
    assert re.findall(r"^EXPORT (.*?\))", source, re.MULTILINE) == [prototype(entry) for entry in ENTRIES.values()]


def test_a_dead_engine_says_how_it_died(engine: EmulatedEngine) -> None:
    os.kill(engine.process.pid, signal.SIGKILL)
    with pytest.raises(EegenFailure, match="stopped: killed by SIGKILL"):
        engine.call("eegen_ticks")


def test_a_dead_engine_gives_its_last_words(engine: EmulatedEngine) -> None:
    with pytest.raises(EegenError, match="stopped: eegen_loss needs an arena"):
        engine.call("eegen_loss", 1)


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(EegenFailure, match="nothing cannot be run: No such file"):
        EmulatedEngine(tmp_path / "nothing", [])


def test_an_engine_has_one_thread(engine: EmulatedEngine) -> None:
    plan = compile_model(CONFIG, "scalar", kind="server").plan
    with pytest.raises(EegenError, match="runs on one thread"):
        Session(plan, engine, build_dataset(["ab"], "abcdefghijklmnopqrstuvwxyz", 16), threads=2)


def test_an_engine_ends_with_its_caller(engine: EmulatedEngine) -> None:
    engine.close()
    assert engine.process.returncode == 0
