"""Generated C as a product: the files in git are what is printed today, and all of it reads well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eegen.emit.lines import fit
from eegen.models.config import ModelConfig
from eegen.plan.build_config import BuildConfig
from eegen.plan.planner import make_plan
from eegen.run.samples import SAMPLES, source
from eegen.run.sources import library_source, program_source
from eegen.targets import TARGETS

GENERATED = Path(__file__).resolve().parent.parent / "generated"
FREESTANDING = {"riscv_vector.h", "arm_neon.h", "arm_sme.h", "immintrin.h", "stdint.h", "stddef.h"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_file_in_git_is_what_is_generated(sample: BuildConfig) -> None:
    kept = (GENERATED / f"{sample.name}.c").read_text(encoding="utf-8")
    assert kept == source(sample), "templates have changed: `python -m eegen.run.samples` writes generated/ anew"


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_include_only_what_comes_with_the_compiler(target: str) -> None:
    text = library_source(make_plan(BuildConfig(ModelConfig(), target)))
    assert set(re.findall(r"#include\s*[<\"](.+?)[>\"]", text)) <= FREESTANDING


@pytest.mark.parametrize("target", TARGETS)
def test_a_program_begins_with_how_to_compile_it(target: str) -> None:
    chars = "abcdefghijklmnopqrstuvwxyz"
    build = BuildConfig(ModelConfig(), target)
    text = program_source(make_plan(build), chars, f"{build.name}-standalone")
    head = text[: text.index("Contents")]
    assert f"eegen build --target {target} --standalone" in head
    head = head.replace(" \\\n *        ", "")
    system = "Linux on RISC-V" if target == "rvv" else "Mac"
    assert re.search(rf"on .*{system}.*\n \*     clang .*-o gpt-d16-\w+-standalone", head)


@pytest.mark.parametrize("target", TARGETS)
def test_every_line_of_the_contents_is_a_section_in_order(target: str) -> None:
    plan = make_plan(BuildConfig(ModelConfig(n_layers=2, activation="relu2"), target))
    text = library_source(plan)
    contents = re.findall(r"^ \*   (\d+) +(\w+)  ", text[text.index("Contents") : text.index("*/")], re.MULTILINE)
    assert contents == re.findall(r"^/\* ==== (\d+) (\w+) =+ \*/$", text, re.MULTILINE)
    assert [int(number) for number, _ in contents] == list(range(1, len(plan.kernels) + 6))


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_is_opened_by_its_shapes(target: str) -> None:
    plan = make_plan(BuildConfig(ModelConfig(), target))
    text = library_source(plan)
    kernels: Sequence[Any] = plan.kernels
    for kernel in kernels:
        opening = re.search(rf"/\* ==== \d+ {kernel.name} =+ \*/\n\n/\* (.*?) \*/\n", text, re.DOTALL)
        assert opening
        comment = " ".join(opening[1].split())
        assert kernel.shape in comment
        if kernel.kind in ("product", "outer"):
            assert f"Tile {kernel.tile}" in comment
            assert re.search(r"\d+ FLOPs a row", comment)


@pytest.mark.parametrize("target", TARGETS)
def test_lines_end_where_their_text_does(target: str) -> None:
    text = library_source(make_plan(BuildConfig(ModelConfig(), target)))
    assert "\n\n\n" not in text
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    assert "\t" not in text
    assert text.endswith("}\n")


def test_the_same_configuration_gives_the_same_text() -> None:
    build = BuildConfig(ModelConfig(d_model=20, n_layers=2), "avx2")
    assert library_source(make_plan(build)) == library_source(make_plan(build))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_no_line_of_a_sample_is_wider_than_120_columns(sample: BuildConfig) -> None:
    wide = [line for line in source(sample).splitlines() if len(line) > 120]
    assert not wide


def test_the_smallest_neon_sample_can_be_read() -> None:
    assert len(source(SAMPLES[0]).splitlines()) < 6000


def test_a_long_line_is_never_broken_inside_a_string_or_without_a_backslash_in_a_macro() -> None:
    text = r'"a string, with a \", comma; and more, and more"'
    lines = fit(
        f"    if (first_condition_of_some_length || second_condition_of_some_length) stop(2, {text}, n);"
    ).splitlines()
    assert len(lines) == 2
    assert sum(text in line for line in lines) == 1
    long = "one, " * 16
    macro = f"#define CALL(n) do {{ f(n); g({long}n); }} while (0)"
    lines = fit(macro).splitlines()
    assert len(lines) > 1
    assert all(line.endswith(" \\") for line in lines[:-1]) and not lines[-1].endswith("\\")
    assert max(map(len, lines)) <= 120
    assert " ".join(line.removesuffix("\\").strip() for line in lines) == macro
