"""Every kernel template is tested alone: some module of tests that calls kernels alone names it in COVERS."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import meta

from eegen.emit.source import environment
from eegen.resources import resource

TESTS = Path(__file__).parent
TEMPLATES = sorted(path.name.removesuffix(".c.j2") for path in resource("templates/kernels").glob("*.c.j2"))
MODULES = [path.stem for path in sorted(TESTS.glob("test_*.py")) if "\nfrom kernel_alone " in path.read_text()]


def reached(template: str) -> Iterator[str]:
    """A template and those that it includes or imports, by name."""
    yield template
    source = resource(f"templates/kernels/{template}.c.j2").read_text()
    for name in meta.find_referenced_templates(environment().parse(source)):
        if name and name.startswith("kernels/"):
            yield from reached(name.removeprefix("kernels/").removesuffix(".c.j2"))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_kernel_tests_says_what_it_covers(module: str) -> None:
    covers = importlib.import_module(module).COVERS
    assert covers and set(covers) <= set(TEMPLATES)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_kernel_template_is_tested_alone(template: str) -> None:
    covered = {name for module in MODULES for name in importlib.import_module(module).COVERS}
    assert template in {name for each in covered for name in reached(each)}
