"""The folders of the package are stages: a stage imports those before it, and no import goes in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "eegen"

# Each stage may import what stands before it, and itself.
STAGES = (
    "errors options defaults resources status",
    "language",
    "models",
    "targets",
    "plan",
    "emit",
    "toolchain",
    "run",
    "train",
    "model",
    "measure",
    "commands",
    "__init__ __main__",
)
RANK = {name: rank for rank, names in enumerate(STAGES) for name in names.split()}
FILES = sorted(PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def stage(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in it, those for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: write the import from eegen"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return {name for name in found if name.split(".")[0] == "eegen" and name in MODULES}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_import_goes_up(path: Path) -> None:
    own = stage(module(path))
    upward = [name for name in imports(path) if name != "eegen" and RANK[stage(name)] > RANK[own]]
    assert not upward, f"{module(path)} imports a later stage"


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: imports(path) - {name, "eegen"} for name, path in MODULES.items() if name != "eegen"}
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"these import each other: {sorted(graph)}"
        for name in free:
            del graph[name]
