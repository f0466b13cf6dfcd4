"""Compiling: every target with every compiler, with C of a few lines; failures; emulation."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from compilers import COMPILERS, need_compiler
from fake_compilers import compiler
from machines import Machine

from eegen.errors import EegenError, EegenFailure
from eegen.targets import TARGETS, runs_here
from eegen.toolchain import cached_compilation, compiler_flags, emulators
from eegen.toolchain.cached_compilation import build
from eegen.toolchain.compiler_flags import is_foreign, zig_spelling
from eegen.toolchain.emulators import emulator

ADD = '__attribute__((visibility("default"))) float add(float a, float b) { return a + b; }\n'
INTRINSICS = {
    "scalar": ADD,
    "avx2": "#include <immintrin.h>\n__m256 f(__m256 a) { return _mm256_fmadd_ps(a, a, a); }\n",
    "avx512": "#include <immintrin.h>\n__m512 f(__m512 a) { return _mm512_fmadd_ps(a, a, a); }\n",
    "rvv": "#include <riscv_vector.h>\n"
    "vfloat32m1_t f(vfloat32m1_t a, size_t n) { return __riscv_vfmacc(a, a, a, n); }\n",
    "neon": "#include <arm_neon.h>\nfloat32x4_t f(float32x4_t a) { return vfmaq_laneq_f32(a, a, a, 1); }\n",
    "sme2": "#include <arm_neon.h>\n#include <arm_sme.h>\n"
    '__arm_locally_streaming __arm_new("za") void f(const float *x)\n'
    "{ svbool_t p = svptrue_b32(); svfloat32_t v = svld1_f32(p, x); svmopa_za32_f32_m(0, p, p, v, v); }\n",
}
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
SCALAR = TARGETS["scalar"]

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(("named", "code"), [(True, 2), (False, 1)])
def test_a_failing_compiler_shows_its_first_error_and_keeps_the_log(
    named: bool, code: int, tmp_path: Path, own_cache: Path
) -> None:
    body = "echo 'm.c:1:1: warning: odd' >&2; echo 'm.c:2:3: error: no such thing' >&2; echo later >&2; exit 1"
    used = compiler(tmp_path, body, named=named)
    with pytest.raises(EegenError, match=r"m\.c:2:3: error: no such thing") as caught:
        build("int x;", "k", SCALAR, used, "library", "m")
    assert caught.value.exit_code == code
    (log,) = (own_cache / "failed").glob("*.log")
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert log.read_text().endswith("later\n")
    assert log.with_suffix(".c").read_text() == "int x;"
    assert list((own_cache / "tmp").iterdir()) == []
    assert not (own_cache / "builds").exists()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("exit 0", "reported success but wrote no m"),
        ("kill -9 $$", "killed by signal 9"),
        ("exit 3", "exit code 3"),
        ("echo 'error: No space left on device'; exit 1", "no space left in .*EEGEN_CACHE"),
    ],
)
def test_a_compiler_that_misbehaves_is_one_line(body: str, complaint: str, tmp_path: Path) -> None:
    used = compiler(tmp_path, body)
    with pytest.raises(EegenFailure, match=complaint) as caught:
        build("int x;", "k", SCALAR, used, "library", "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", COMPILERS)
def test_every_target_compiles_to_an_object(kind: str, name: str) -> None:
    built = build(INTRINSICS[name], "", TARGETS[name], need_compiler(kind), "object", name)
    assert built.log == ""
    assert built.path.read_bytes()[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe")


@pytest.mark.parametrize("kind", COMPILERS)
def test_a_library_loads(kind: str) -> None:
    built = build(ADD, "", SCALAR, need_compiler(kind), "library", "m")
    loaded = ctypes.CDLL(str(built.path))
    loaded.add.restype, loaded.add.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_float]
    assert loaded.add(1.5, 2.0) == 3.5


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac links its libraries with libSystem")
@pytest.mark.parametrize("kind", COMPILERS)
def test_a_library_needs_no_other_library(kind: str) -> None:
    zeros = "#include <stddef.h>\nvoid zero(float *p, size_t n) { for (size_t i = 0; i < n; i++) p[i] = 0; }\n"
    source = "#pragma GCC visibility push(default)\n" + zeros
    built = build(source, "", SCALAR, need_compiler(kind), "library", "m")
    assert b"memset" not in built.path.read_bytes()
    assert b"libc.so" not in built.path.read_bytes()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * is_foreign(t)) for n, t in TARGETS.items()]
)
@pytest.mark.parametrize("kind", COMPILERS)
def test_a_program_compiles_without_a_remark_and_runs(kind: str, name: str) -> None:
    """No flag of the command line is one that the compiler has something to say about."""
    Machine(name).need()
    target = TARGETS[name]
    built = build(HELLO, "", target, need_compiler(kind), "program", name, ["-Wall", "-Wextra", "-Werror"])
    assert built.log == ""
    done = subprocess.run([*emulator(target), str(built.path)], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"


def test_zig_gets_its_own_spelling() -> None:
    assert zig_spelling(["-march=x86-64-v4", "-mprefer-vector-width=512"]) == [
        "-mcpu=x86_64_v4",
        "-mprefer-vector-width=512",
    ]
    assert zig_spelling(["-mcpu=apple-m4"]) == ["-mcpu=apple_m4"]
    assert zig_spelling(["-march=armv8-a"]) == ["-mcpu=generic+v8a"]
    assert zig_spelling(["-march=armv8.2-a+fp16"]) == ["-mcpu=generic+v8_2a+fp16"]


def foreign(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    """A machine of that processor family, which runs portable C only."""
    monkeypatch.setattr(compiler_flags, "cpu_machine", lambda: machine)
    monkeypatch.setattr(
        emulators, "runs_here", lambda target: None if target.machine == "any" else "not this processor"
    )


@pytest.mark.parametrize(("wheel", "way"), [(None, "run `eegen doctor --fix`"), (("zig", "cc"), "give --cc ziglang")])
def test_a_program_without_a_cross_libc_is_one_line_that_names_a_way(
    wheel: tuple[str, ...] | None, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(monkeypatch, "x86_64")
    monkeypatch.setattr(cached_compilation, "cross_libc", lambda machine: None)
    monkeypatch.setattr(cached_compilation, "zig_wheel", lambda: wheel)
    used = compiler(tmp_path, "echo \"m.c:1:10: fatal error: 'stdio.h' file not found\" >&2; exit 1")
    with pytest.raises(EegenError, match="cannot link a program for neon: no C library for aarch64; " + way) as caught:
        build(HELLO, "", TARGETS["neon"], used, "program", "m")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_emulation_knows_the_streaming_vector_length(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch, "x86_64")
    monkeypatch.setattr(emulators, "find_qemu", lambda machine: f"/qemu-{machine}")
    assert emulator(SCALAR) == []
    assert emulator(TARGETS["neon"]) == ["/qemu-aarch64", "-cpu", "max"]
    sme = ["/qemu-aarch64", "-cpu", "max,sme=on,sme-default-vector-length=64"]
    assert emulator(TARGETS["sme2"]) == sme


def test_what_cannot_be_emulated_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch, "aarch64")
    monkeypatch.setattr(emulators, "find_qemu", lambda machine: None)
    with pytest.raises(EegenError, match="QEMU cannot emulate avx512"):
        emulator(TARGETS["avx512"])
    with pytest.raises(EegenError, match=r"no qemu-x86_64 to emulate it; run `eegen doctor --fix`"):
        emulator(TARGETS["avx2"])


def test_what_runs_here_needs_no_emulator() -> None:
    for target in TARGETS.values():
        if runs_here(target) is None:
            assert emulator(target) == []
