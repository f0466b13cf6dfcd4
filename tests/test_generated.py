"""Generated C as a product: the files in git are what is printed today, and all of it reads well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

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
    text = program_source(make_plan(BuildConfig(ModelConfig(), target)), chars)
    head = text[: text.index("Contents")]
    assert f"eegen build --target {target} --standalone" in head
    assert re.search(r"on .*Mac.*\n \*     clang .*-o gpt-d16-\w+-standalone", head.replace(" \\\n *        ", ""))


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
