"""Finding a compiler, its flags, the build cache, emulation: with C of a few lines and compilers of shell."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from machines import missing

from eegen.errors import EegenError, EegenFailure
from eegen.targets import TARGETS, runs_here
from eegen.toolchain import cache
from eegen.toolchain import compilation as toolchain
from eegen.toolchain.compiler import Compiler, find_compiler, too_old, zig_wheel

ADD = '__attribute__((visibility("default"))) float add(float a, float b) { return a + b; }\n'
INTRINSICS = {
    "scalar": ADD,
    "avx2": "#include <immintrin.h>\n__m256 f(__m256 a) { return _mm256_fmadd_ps(a, a, a); }\n",
    "avx512": "#include <immintrin.h>\n__m512 f(__m512 a) { return _mm512_fmadd_ps(a, a, a); }\n",
    "neon": "#include <arm_neon.h>\nfloat32x4_t f(float32x4_t a) { return vfmaq_laneq_f32(a, a, a, 1); }\n",
    "sme2": "#include <arm_neon.h>\n#include <arm_sme.h>\n"
    '__arm_locally_streaming __arm_new("za") void f(const float *x)\n'
    "{ svbool_t p = svptrue_b32(); svfloat32_t v = svld1_f32(p, x); svmopa_za32_f32_m(0, p, p, v, v); }\n",
}
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
SCALAR = TARGETS["scalar"]

has_clang = pytest.mark.skipif(not list(toolchain.all_compilers()), reason="no compiler on this machine")
has_zig = pytest.mark.skipif(zig_wheel() is None, reason="no ziglang wheel in this Python")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a temporary folder of the test's own, and no compiler asked for by the environment."""
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("EEGEN_CC", raising=False)
    monkeypatch.setattr(cache, "_noted", set())
    return tmp_path / "cache"


def fake_compiler(folder: Path, name: str, version: str = "clang version 19.1.7", body: str = "") -> Path:
    """A shell script that answers --version (leaving a mark for each time) and otherwise runs `body`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        f'#!/bin/sh\ncase "$*" in *--version)\necho asked >> {folder}/asked; echo "{version}"; exit 0;;\nesac\n{body}\n'
    )
    path.chmod(0o755)
    return path


WRITES_OUTPUT = 'while [ "$1" != -o ]; do shift; done; echo compiled > "$2"'


def only_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """PATH with `folder` and the shell's own tools, but none of this machine's compilers, and no wheel."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("eegen.toolchain.compiler.zig_wheel", lambda: None)


def test_newest_numbered_clang_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(monkeypatch, tmp_path / "bin")
    for number in (9, 16, 101):
        fake_compiler(tmp_path / "bin", f"clang-{number}", f"Debian clang version {number}.0.1 (x)")
    fake_compiler(tmp_path / "bin", "clang", "clang version 200.0.0")
    found = find_compiler()
    assert found.argv == (str(tmp_path / "bin" / "clang-101"),)
    assert (found.kind, found.major, found.version) == ("clang", 101, "Debian clang version 101.0.1 (x)")


def test_a_broken_clang_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(monkeypatch, tmp_path / "bin")
    (tmp_path / "bin" / "clang-30").write_text("not a program")
    (tmp_path / "bin" / "clang-30").chmod(0o755)
    fake_compiler(tmp_path / "bin", "clang")
    assert find_compiler().argv == (str(tmp_path / "bin" / "clang"),)


def test_cc_wins_over_environment_and_environment_over_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(monkeypatch, tmp_path / "bin")
    fake_compiler(tmp_path / "bin", "clang-19")
    mine, theirs = (fake_compiler(tmp_path / "bin", name) for name in ("mine", "theirs"))
    assert find_compiler().argv[0].endswith("clang-19")
    monkeypatch.setenv("EEGEN_CC", "theirs --flag")
    assert find_compiler().argv == (str(theirs), "--flag")
    assert find_compiler(str(mine)).argv == (str(mine),)


@has_zig
def test_the_wheel_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = find_compiler()
    assert found.kind == "zig"
    assert found.argv == (sys.executable, "-m", "ziglang", "cc")
    assert find_compiler("ziglang") == found


def test_no_compiler_is_one_line_that_names_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(monkeypatch, tmp_path / "bin")
    with pytest.raises(EegenError, match=r"no compiler.*eegen doctor --fix") as caught:
        find_compiler()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("no-such-cc", "does not exist"),
        ("gcc-like", "is not a clang: it answers 'gcc"),
        ("'unclosed", "cannot be read"),
    ],
)
def test_a_wrong_cc_is_one_line(wanted: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(monkeypatch, tmp_path / "bin")
    fake_compiler(tmp_path / "bin", "gcc-like", "gcc (Debian 12.2.0) 12.2.0")
    with pytest.raises(EegenError, match=complaint) as caught:
        find_compiler(wanted)
    assert caught.value.exit_code == 2
    assert wanted in str(caught.value)
    assert "--cc" in str(caught.value)


def test_version_is_asked_once_until_the_compiler_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(monkeypatch, tmp_path / "bin")
    script = fake_compiler(tmp_path / "bin", "clang-19")
    assert find_compiler() == find_compiler()
    assert (tmp_path / "bin" / "asked").read_text().count("asked") == 1
    fake_compiler(tmp_path / "bin", "clang-19", "clang version 19.2.0 (newer)")
    assert find_compiler(str(script)).version == "clang version 19.2.0 (newer)"


def test_sme2_needs_a_clang_that_knows_it(tmp_path: Path) -> None:
    old = Compiler(("clang-16",), "clang", "clang version 16.0.6", 16)
    assert too_old(old, TARGETS["sme2"]) == "sme2 needs clang 19 or newer"
    assert too_old(old, TARGETS["neon"]) is None
    with pytest.raises(EegenError, match=r"clang 16, but sme2 needs clang 19.*doctor --fix"):
        toolchain.build("", "k", TARGETS["sme2"], old, "object", "m")


@has_clang
def test_a_library_compiles_once_and_loads() -> None:
    compiler = find_compiler()
    first = toolchain.build(lambda: ADD, "key", SCALAR, compiler, "library", "m")
    assert not first.cached
    loaded = ctypes.CDLL(str(first.path))
    loaded.add.restype, loaded.add.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_float]
    assert loaded.add(1.5, 2.0) == 3.5
    assert first.source_path.read_text() == ADD

    def never() -> str:
        raise AssertionError("the source of a cached build was rendered")

    again = toolchain.build(never, "key", SCALAR, compiler, "library", "m")
    assert again.cached
    assert (again.path, again.seconds, again.command, again.log) == (
        first.path, first.seconds, first.command, first.log)  # fmt: skip


def test_everything_that_changes_the_output_changes_the_entry(tmp_path: Path) -> None:
    def compiler(version: str) -> Compiler:
        return Compiler((str(fake_compiler(tmp_path, "cc", body=WRITES_OUTPUT)),), "clang", version, 19)

    one = compiler("clang version 19")
    builds = [
        toolchain.build("a", "k", SCALAR, one, "library", "m"),
        toolchain.build("b", "k", SCALAR, one, "library", "m"),
        toolchain.build("a", "l", SCALAR, one, "library", "m"),
        toolchain.build("a", "k", SCALAR, one, "object", "m"),
        toolchain.build("a", "k", SCALAR, one, "library", "m", ["-DPROFILE"]),
        toolchain.build("a", "k", TARGETS["avx2"], one, "library", "m"),
        toolchain.build("a", "k", SCALAR, compiler("clang version 19.1"), "library", "m"),
    ]
    assert not any(build.cached for build in builds)
    assert len({build.path.parent for build in builds}) == len(builds)


@pytest.mark.parametrize("damage", ["empty", "shorter", "gone", "manifest"])
def test_a_damaged_entry_is_built_again(damage: str, tmp_path: Path) -> None:
    compiler = Compiler((str(fake_compiler(tmp_path, "cc", body=WRITES_OUTPUT)),), "clang", "clang version 19", 19)
    made = toolchain.build("a", "k", SCALAR, compiler, "library", "m")
    if damage == "gone":
        made.path.unlink()
    elif damage == "manifest":
        (made.path.parent / cache.MANIFEST).write_text("{")
    else:
        made.path.write_text("" if damage == "empty" else "comp")
    again = toolchain.build("a", "k", SCALAR, compiler, "library", "m")
    assert not again.cached
    assert again.path == made.path
    assert again.path.read_text() == "compiled\n"


def test_two_processes_building_the_same_at_once_both_succeed(tmp_path: Path, own_cache: Path) -> None:
    wait_for_both = f"while [ $(wc -l < {tmp_path}/started) -lt 2 ]; do :; done"
    body = f"echo started >> {tmp_path}/started; {wait_for_both}; {WRITES_OUTPUT}"
    script = fake_compiler(tmp_path, "cc", body=body)
    program = (
        "from eegen import toolchain; from eegen.targets import TARGETS; from eegen.compilers import find_compiler\n"
        f"built = toolchain.build('a', 'k', TARGETS['scalar'], find_compiler({str(script)!r}), 'library', 'm')\n"
        "print(built.path, built.cached, built.path.read_text())"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert said[0][0].endswith("False compiled\n\n")
    assert list((own_cache / "tmp").iterdir()) == []
    assert len(list((own_cache / "builds").iterdir())) == 1


def test_an_interrupted_build_leaves_nothing_that_is_trusted(tmp_path: Path, own_cache: Path) -> None:
    half = 'while [ "$1" != -o ]; do shift; done; printf half > "$2"; '
    script = fake_compiler(tmp_path, "cc", body=f"{half} touch {tmp_path}/started; exec /bin/sleep 3")
    program = (
        "from eegen import toolchain; from eegen.targets import TARGETS; from eegen.compilers import find_compiler\n"
        f"toolchain.build('a', 'k', TARGETS['scalar'], find_compiler({str(script)!r}), 'library', 'm')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (own_cache / "builds").exists()
    left = list((own_cache / "tmp").iterdir())
    assert len(left) == 1

    fake_compiler(tmp_path, "cc", body=WRITES_OUTPUT)
    yesterday = time.time() - 2 * cache.SCRATCH_LIFE
    os.utime(left[0], (yesterday, yesterday))
    built = toolchain.build("a", "k", SCALAR, find_compiler(str(script)), "library", "m")
    assert not built.cached
    assert built.path.read_text() == "compiled\n"
    assert not left[0].exists()


@pytest.mark.parametrize(("named", "code"), [(True, 2), (False, 1)])
def test_a_failing_compiler_shows_its_first_error_and_keeps_the_log(
    named: bool, code: int, tmp_path: Path, own_cache: Path
) -> None:
    body = "echo 'm.c:1:1: warning: odd' >&2; echo 'm.c:2:3: error: no such thing' >&2; echo later >&2; exit 1"
    compiler = Compiler((str(fake_compiler(tmp_path, "cc", body=body)),), "clang", "clang version 19", 19, named)
    with pytest.raises(EegenError, match=r"m\.c:2:3: error: no such thing") as caught:
        toolchain.build("int x;", "k", SCALAR, compiler, "library", "m")
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
    compiler = Compiler((str(fake_compiler(tmp_path, "cc", body=body)),), "clang", "clang version 19", 19)
    with pytest.raises(EegenFailure, match=complaint) as caught:
        toolchain.build("int x;", "k", SCALAR, compiler, "library", "m")
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_replaced_with_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path / "file" / "cache"))
    compiler = Compiler((str(fake_compiler(tmp_path, "cc", body=WRITES_OUTPUT)),), "clang", "clang version 19", 19)
    for name in ("m", "n"):
        built = toolchain.build("a", "k", SCALAR, compiler, "library", name)
        assert built.path.is_relative_to(cache.fallback_dir())
    assert toolchain.build("a", "k", SCALAR, compiler, "library", "m").cached
    said = capsys.readouterr().err
    assert said.count("note: the cache") == 1
    assert "Not a directory" in said


def test_a_fallback_that_others_can_write_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path / "file" / "cache"))
    cache.fallback_dir().mkdir()
    cache.fallback_dir().chmod(0o777)
    assert cache.fallback_dir() not in cache.readable_dirs()
    assert cache.writable_dir() != cache.fallback_dir()


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("EEGEN_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg" / "eegen"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache.cache_dir() == Path.home() / ".cache" / "eegen"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.cache_dir() == Path.home() / "Library" / "Caches" / "eegen"


@has_clang
@pytest.mark.parametrize("name", TARGETS)
def test_every_target_compiles_to_an_object_with_clang(name: str) -> None:
    built = toolchain.build(INTRINSICS[name], "", TARGETS[name], find_compiler(), "object", name)
    assert built.log == ""
    assert built.path.read_bytes()[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe")


@has_zig
@pytest.mark.parametrize("name", TARGETS)
def test_every_target_compiles_to_an_object_with_zig(name: str) -> None:
    built = toolchain.build(INTRINSICS[name], "", TARGETS[name], find_compiler("ziglang"), "object", name)
    assert built.log == ""
    assert built.path.stat().st_size > 0


@has_zig
def test_a_library_of_zig_loads() -> None:
    built = toolchain.build(ADD, "", SCALAR, find_compiler("ziglang"), "library", "m")
    loaded = ctypes.CDLL(str(built.path))
    loaded.add.restype, loaded.add.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_float]
    assert loaded.add(1.5, 2.0) == 3.5


@has_clang
@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac links its libraries with libSystem")
def test_a_library_needs_no_other_library() -> None:
    zeros = "#include <stddef.h>\nvoid zero(float *p, size_t n) { for (size_t i = 0; i < n; i++) p[i] = 0; }\n"
    built = toolchain.build(
        "#pragma GCC visibility push(default)\n" + zeros, "", SCALAR, find_compiler(), "library", "m"
    )
    assert b"memset" not in built.path.read_bytes()
    assert b"libc.so" not in built.path.read_bytes()


@has_clang
@pytest.mark.parametrize("name", ["scalar", "neon", "sme2"])
def test_a_program_runs_here_or_emulated(name: str) -> None:
    target = TARGETS[name]
    if toolchain.is_foreign(target) and not (
        toolchain.cross_libc(target.machine) and toolchain.find_qemu(target.machine)
    ):
        pytest.skip("no cross toolchain or no QEMU")
    built = toolchain.build(HELLO, "", target, find_compiler(), "program", name)
    done = subprocess.run([*toolchain.emulator(target), str(built.path)], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"


@has_zig
@pytest.mark.slow
def test_a_program_of_zig_for_arm_is_static_and_runs_emulated() -> None:
    if not shutil.which("qemu-aarch64"):
        missing("there is no QEMU")
    target = TARGETS["sme2"]
    built = toolchain.build(HELLO, "", target, find_compiler("ziglang"), "program", "m")
    done = subprocess.run([*toolchain.emulator(target), str(built.path)], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"


def test_zig_gets_its_own_spelling() -> None:
    assert toolchain._zig_flags(["-march=x86-64-v4", "-mprefer-vector-width=512"]) == [
        "-mcpu=x86_64_v4",
        "-mprefer-vector-width=512",
    ]
    assert toolchain._zig_flags(["-mcpu=apple-m4"]) == ["-mcpu=apple_m4"]
    assert toolchain._zig_flags(["-march=armv8-a"]) == ["-mcpu=generic+v8a"]
    assert toolchain._zig_flags(["-march=armv8.2-a+fp16"]) == ["-mcpu=generic+v8_2a+fp16"]


def foreign(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(toolchain, "cpu_machine", lambda: machine)
    monkeypatch.setattr(
        toolchain, "runs_here", lambda target: None if target.machine == "any" else "not this processor"
    )


def test_a_program_without_a_cross_libc_names_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch, "x86_64")
    monkeypatch.setattr(toolchain, "cross_libc", lambda machine: None)
    body = "echo \"m.c:1:10: fatal error: 'stdio.h' file not found\" >&2; exit 1"
    compiler = Compiler((str(fake_compiler(tmp_path, "cc", body=body)),), "clang", "clang version 19", 19)
    with pytest.raises(EegenError, match=r"no C library for aarch64.*eegen doctor --fix") as caught:
        toolchain.build(HELLO, "", TARGETS["neon"], compiler, "program", "m")
    assert caught.value.exit_code == 2


def test_emulation_knows_the_streaming_vector_length(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch, "x86_64")
    monkeypatch.setattr(toolchain, "find_qemu", lambda machine: f"/qemu-{machine}")
    assert toolchain.emulator(SCALAR) == []
    assert toolchain.emulator(TARGETS["neon"]) == ["/qemu-aarch64", "-cpu", "max"]
    sme = ["/qemu-aarch64", "-cpu", "max,sme=on,sme-default-vector-length=64"]
    assert toolchain.emulator(TARGETS["sme2"]) == sme


def test_what_cannot_be_emulated_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch, "aarch64")
    monkeypatch.setattr(toolchain, "find_qemu", lambda machine: None)
    with pytest.raises(EegenError, match="QEMU cannot emulate avx512"):
        toolchain.emulator(TARGETS["avx512"])
    with pytest.raises(EegenError, match=r"no qemu-x86_64 to emulate it; run `eegen doctor --fix`"):
        toolchain.emulator(TARGETS["avx2"])


def test_what_runs_here_needs_no_emulator() -> None:
    for target in TARGETS.values():
        if runs_here(target) is None:
            assert toolchain.emulator(target) == []


def test_the_digest_follows_templates_and_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, templates = tmp_path / "eegen", tmp_path / "templates" / "kernels"
    package.mkdir()
    templates.mkdir(parents=True)
    monkeypatch.setattr(toolchain, "__file__", str(package / "toolchain.py"))
    digests = set()
    for path, text in [
        (package / "a.py", "1"), (package / "a.py", "2"), (templates / "x.c.j2", "1"), (templates / "y.c.j2", "1"),
    ]:  # fmt: skip
        path.write_text(text)
        toolchain.package_digest.cache_clear()
        digests.add(toolchain.package_digest())
    assert len(digests) == 4
    toolchain.package_digest.cache_clear()


@has_clang
def test_a_warm_start_runs_no_other_program(monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain.build(lambda: ADD, "key", SCALAR, find_compiler(), "library", "m")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert toolchain.build(lambda: ADD, "key", SCALAR, find_compiler(), "library", "m").cached


def test_the_manifest_says_how_an_entry_was_made(tmp_path: Path) -> None:
    compiler = Compiler((str(fake_compiler(tmp_path, "cc", body=WRITES_OUTPUT)),), "clang", "clang version 19", 19)
    built = toolchain.build("a", "k", SCALAR, compiler, "object", "m")
    facts = json.loads((built.path.parent / cache.MANIFEST).read_text())
    assert facts["command"] == built.command
    assert facts["files"] == {"m.c": 1, "m.o": len("compiled\n")}
    assert cache.usage(cache.cache_dir())[0] == 1
