"""The build cache: what makes an entry, damaged and interrupted builds, the folder it is in."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_compilers import WRITES_OUTPUT, compiler, fake_compiler

from eegen.targets import TARGETS
from eegen.toolchain import build_cache, package_digest
from eegen.toolchain.cached_compilation import build
from eegen.toolchain.compiler_search import find_compiler

ADD = '__attribute__((visibility("default"))) float add(float a, float b) { return a + b; }\n'
SCALAR = TARGETS["scalar"]

pytestmark = pytest.mark.usefixtures("own_cache")


def test_everything_that_changes_the_output_changes_the_entry(tmp_path: Path) -> None:
    one = compiler(tmp_path)
    builds = [
        build("a", "k", SCALAR, one, "library", "m"),
        build("b", "k", SCALAR, one, "library", "m"),
        build("a", "l", SCALAR, one, "library", "m"),
        build("a", "k", SCALAR, one, "object", "m"),
        build("a", "k", SCALAR, one, "library", "m", ["-DPROFILE"]),
        build("a", "k", TARGETS["avx2"], one, "library", "m"),
        build("a", "k", SCALAR, compiler(tmp_path, version="clang version 19.1"), "library", "m"),
    ]
    assert not any(build.cached for build in builds)
    assert len({build.path.parent for build in builds}) == len(builds)


@pytest.mark.parametrize("damage", ["empty", "shorter", "gone", "manifest"])
def test_a_damaged_entry_is_built_again(damage: str, tmp_path: Path) -> None:
    used = compiler(tmp_path)
    made = build("a", "k", SCALAR, used, "library", "m")
    if damage == "gone":
        made.path.unlink()
    elif damage == "manifest":
        (made.path.parent / build_cache.MANIFEST).write_text("{")
    else:
        made.path.write_text("" if damage == "empty" else "comp")
    again = build("a", "k", SCALAR, used, "library", "m")
    assert not again.cached
    assert again.path == made.path
    assert again.path.read_text() == "compiled\n"


def test_two_processes_building_the_same_at_once_both_succeed(tmp_path: Path, own_cache: Path) -> None:
    wait_for_both = f"while [ $(wc -l < {tmp_path}/started) -lt 2 ]; do :; done"
    body = f"echo started >> {tmp_path}/started; {wait_for_both}; {WRITES_OUTPUT}"
    script = fake_compiler(tmp_path, "cc", body=body)
    program = (
        "from eegen.toolchain.cached_compilation import build; from eegen.targets import TARGETS\n"
        "from eegen.toolchain.compiler_search import find_compiler\n"
        f"built = build('a', 'k', TARGETS['scalar'], find_compiler({str(script)!r}), 'library', 'm')\n"
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
        "from eegen.toolchain.cached_compilation import build; from eegen.targets import TARGETS\n"
        "from eegen.toolchain.compiler_search import find_compiler\n"
        f"build('a', 'k', TARGETS['scalar'], find_compiler({str(script)!r}), 'library', 'm')\n"
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
    yesterday = time.time() - 2 * build_cache.SCRATCH_LIFE
    os.utime(left[0], (yesterday, yesterday))
    built = build("a", "k", SCALAR, find_compiler(str(script)), "library", "m")
    assert not built.cached
    assert built.path.read_text() == "compiled\n"
    assert not left[0].exists()


def test_a_cache_that_cannot_be_written_is_replaced_with_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path / "file" / "cache"))
    used = compiler(tmp_path)
    for name in ("m", "n"):
        built = build("a", "k", SCALAR, used, "library", name)
        assert built.path.is_relative_to(build_cache.fallback_dir())
    assert build("a", "k", SCALAR, used, "library", "m").cached
    said = capsys.readouterr().err
    assert said.count("note: the cache") == 1
    assert "Not a directory" in said


def test_a_fallback_that_others_can_write_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path / "file" / "cache"))
    build_cache.fallback_dir().mkdir()
    build_cache.fallback_dir().chmod(0o777)
    assert build_cache.fallback_dir() not in build_cache.readable_dirs()
    assert build_cache.writable_dir() != build_cache.fallback_dir()


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_cache.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("EEGEN_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build_cache.cache_dir() == tmp_path / "xdg" / "eegen"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert build_cache.cache_dir() == Path.home() / ".cache" / "eegen"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert build_cache.cache_dir() == Path.home() / "Library" / "Caches" / "eegen"


def test_a_warm_start_runs_no_other_program(monkeypatch: pytest.MonkeyPatch) -> None:
    build(lambda: ADD, "key", SCALAR, find_compiler(), "library", "m")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert build(lambda: ADD, "key", SCALAR, find_compiler(), "library", "m").cached


def test_the_manifest_says_how_an_entry_was_made(tmp_path: Path) -> None:
    used = compiler(tmp_path)
    built = build("a", "k", SCALAR, used, "object", "m")
    facts = json.loads((built.path.parent / build_cache.MANIFEST).read_text())
    assert facts["command"] == built.command
    assert facts["files"] == {"m.c": 1, "m.o": len("compiled\n")}
    assert build_cache.usage(build_cache.cache_dir())[0] == 1


def test_the_digest_follows_templates_and_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, templates = tmp_path / "eegen", tmp_path / "templates" / "kernels"
    package.mkdir()
    templates.mkdir(parents=True)
    monkeypatch.setattr(package_digest, "PACKAGE", package)
    digests = set()
    for path, text in [
        (package / "a.py", "1"), (package / "a.py", "2"), (templates / "x.c.j2", "1"), (templates / "y.c.j2", "1"),
    ]:  # fmt: skip
        path.write_text(text)
        package_digest.package_digest.cache_clear()
        digests.add(package_digest.package_digest())
    assert len(digests) == 4
    package_digest.package_digest.cache_clear()


def test_a_library_compiles_once_and_loads() -> None:
    used = find_compiler()
    first = build(lambda: ADD, "key", SCALAR, used, "library", "m")
    assert not first.cached
    loaded = ctypes.CDLL(str(first.path))
    loaded.add.restype, loaded.add.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_float]
    assert loaded.add(1.5, 2.0) == 3.5
    assert first.source_path.read_text() == ADD

    def never() -> str:
        raise AssertionError("the source of a cached build was rendered")

    again = build(never, "key", SCALAR, used, "library", "m")
    assert again.cached
    assert (again.path, again.seconds, again.command, again.log) == (
        first.path, first.seconds, first.command, first.log)  # fmt: skip
