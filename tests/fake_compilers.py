"""Compilers of shell script, for tests of what is done with a compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from eegen.toolchain.compiler_search import Compiler


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


def compiler(
    folder: Path, body: str = WRITES_OUTPUT, version: str = "clang version 19", named: bool = False
) -> Compiler:
    """A compiler that is such a script."""
    return Compiler((str(fake_compiler(folder, "cc", body=body)),), "clang", version, 19, named)


def only_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """PATH is `folder` alone, and there is no wheel: none of this machine's compilers is found."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("eegen.toolchain.compiler_search.zig_wheel", lambda: None)
