"""The compilers that tests run with: each that is there. In CI, each that EEGEN_TEST_COMPILERS names has to be."""

from __future__ import annotations

import os

from machines import missing

from eegen.toolchain.compiler_search import Compiler, all_compilers

KINDS = {"clang": "clang", "ziglang": "zig"}


def present(name: str) -> Compiler | None:
    """The best compiler of that name, or None."""
    return next((compiler for compiler in all_compilers() if compiler.kind == KINDS[name]), None)


def need_compiler(name: str) -> Compiler:
    """The best compiler of that name; without it the running test is skipped, or fails in CI."""
    compiler = present(name)
    if compiler is None:
        missing(f"no {name} on this machine")
    return compiler


def compiler_names() -> list[str]:
    """The names to run tests with."""
    if os.environ.get("CI") == "true":
        return os.environ.get("EEGEN_TEST_COMPILERS", " ".join(KINDS)).split()
    return [name for name in KINDS if present(name)] or ["clang"]


COMPILERS = compiler_names()
