"""`python3 eegen COMMAND` in a clone: which compiler it installs, and that it runs no module of the current folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_compilers import fake_compiler

from eegen import __main__ as clone


@pytest.mark.parametrize(
    ("named", "on_path", "there"),
    [
        ("", [], False),
        ("", ["clang"], True),
        ("", ["clang-16"], True),
        ("", ["clang-format", "gcc"], False),
        ("clang-19", [], True),  # not the wheel's: doctor installs it
        ("ziglang", ["clang"], False),
        ("zig", ["zig"], True),
    ],
)
def test_the_wheel_is_installed_where_its_compiler_will_be_used(
    named: str, on_path: list[str], there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in on_path:
        fake_compiler(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("EEGEN_CC", named)
    assert clone.has_compiler() is there


def test_a_clang_that_does_not_answer_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_compiler(tmp_path / "bin", "clang").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("EEGEN_CC", raising=False)
    assert not clone.has_compiler()


def test_no_module_of_the_current_folder_is_run(tmp_path: Path) -> None:
    for name in ("pip", "venv", "ensurepip"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for name in ("pip", "venv", "ensurepip"):
        subprocess.run([*clone.module(name, sys.executable), "--help"], cwd=tmp_path, capture_output=True)
    assert not (tmp_path / "ran").exists()
