"""What a wheel and an sdist hold, and that a clone starts with nothing but Python."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


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
    program = "from eegen.run.data import bundled_names; from eegen.resources import resource; "
    program += "print(bundled_names(), resource('templates'), sep='\\n')"
    away = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=tmp_path, env=away, check=True, capture_output=True, text=True).stdout
    inside = tmp_path / "site" / "eegen"
    assert found.split() == [str(inside / "names.txt"), str(inside / "templates")]
    assert (inside / "names.txt").read_bytes() == (ROOT / "names.txt").read_bytes()


STRAY = [
    "notes.txt",
    "eegen/scratch.c",
    "eegen/run/old.py.orig",
    "templates/notes.txt",
    "tests/core",
    "docs/plan.txt",
    "generated/mine.c",
    ".venv/bin/python",
    "run.safetensors",
    "elsewhere/module.py",
    ".ci/log",
]


@pytest.fixture(scope="module")
def littered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with files that are not its own in every folder."""
    copy = tmp_path_factory.mktemp("copy") / "eegen"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".*_cache", ".venv", "__pycache__", ".hypothesis")
    )
    for name in STRAY:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("stray")
    return copy


def build(project: Path, kind: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return next(folder.iterdir())


def test_an_sdist_holds_the_project_and_nothing_that_lies_about(littered: Path, tmp_path: Path) -> None:
    with tarfile.open(build(littered, "sdist", tmp_path)) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    own = {name for name in tracked if (ROOT / name).exists()}
    own |= {str(path.relative_to(ROOT)) for path in (ROOT / "eegen").rglob("*.py")} | {"pyproject.toml", "README.md"}
    assert own <= held
    assert not held & set(STRAY)


def test_a_wheel_holds_nothing_that_lies_about(littered: Path, wheel: Path, tmp_path: Path) -> None:
    made = build(littered, "wheel", tmp_path)
    assert set(zipfile.ZipFile(made).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_an_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "xf", build(ROOT, "sdist", tmp_path / "sdist")], cwd=tmp_path, check=True)
    unpacked = next(path for path in tmp_path.iterdir() if path.name.startswith("eegen-"))
    made = build(unpacked, "wheel", tmp_path / "wheel")
    assert set(zipfile.ZipFile(made).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_a_clone_starts_with_the_standard_library_alone() -> None:
    tree = ast.parse((ROOT / "eegen" / "__main__.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= sys.stdlib_module_names


def test_an_old_python_can_read_far_enough_to_say_that_it_is_old() -> None:
    ast.parse((ROOT / "eegen" / "__main__.py").read_text(), feature_version=(3, 7))
