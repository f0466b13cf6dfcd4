"""What a wheel holds, and that a clone starts with nothing but Python."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_names_and_every_template(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    templates = {f"eegen/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*.j2")}
    assert templates
    assert templates | {"eegen/names.txt", "eegen/py.typed", "eegen/__main__.py"} <= held


def test_the_wheel_holds_nothing_outside_its_package(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"eegen"}


def test_the_unpacked_wheel_finds_its_files_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = "from eegen.data import bundled_names; from eegen.resources import resource; "
    program += "print(bundled_names(), resource('templates'), sep='\\n')"
    away = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=tmp_path, env=away, check=True, capture_output=True, text=True).stdout
    inside = tmp_path / "site" / "eegen"
    assert found.split() == [str(inside / "names.txt"), str(inside / "templates")]
    assert (inside / "names.txt").read_bytes() == (ROOT / "names.txt").read_bytes()


def test_a_clone_starts_with_the_standard_library_alone() -> None:
    tree = ast.parse((ROOT / "eegen" / "__main__.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= sys.stdlib_module_names


def test_an_old_python_can_read_far_enough_to_say_that_it_is_old() -> None:
    ast.parse((ROOT / "eegen" / "__main__.py").read_text(), feature_version=(3, 7))
