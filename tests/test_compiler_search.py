"""Finding a compiler: by name, on PATH, in the ziglang wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from compilers import COMPILERS
from fake_compilers import fake_compiler, only_on_path

from eegen.errors import EegenError
from eegen.targets import TARGETS
from eegen.toolchain.cached_compilation import build
from eegen.toolchain.compiler_search import Compiler, find_compiler, too_old

pytestmark = pytest.mark.usefixtures("own_cache")


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


@pytest.mark.skipif("ziglang" not in COMPILERS, reason="no ziglang wheel in this Python")
def test_the_wheel_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = find_compiler()
    assert found.kind == "zig"
    assert found.argv[1:] == ("cc",)
    assert Path(found.argv[0]).is_relative_to(sys.prefix)
    assert find_compiler("ziglang") == found


def test_no_ziglang_of_the_current_folder_is_run(tmp_path: Path) -> None:
    (tmp_path / "ziglang").mkdir()
    fake_compiler(tmp_path / "ziglang", "zig")
    for module in ("ziglang.py", "ziglang/__init__.py", "ziglang/__main__.py"):
        (tmp_path / module).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    program = "from eegen.toolchain.compiler_search import all_compilers; print(*(c.argv[0] for c in all_compilers()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(tmp_path) not in done.stdout
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "ziglang" / "asked").exists()


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
        ("ziglang", "this Python has no ziglang wheel; run `eegen doctor --fix --cc ziglang`"),
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
        build("", "k", TARGETS["sme2"], old, "object", "m")
