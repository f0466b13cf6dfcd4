"""The files that come with eegen: `names.txt` and the C templates."""

from __future__ import annotations

from pathlib import Path

from eegen.errors import EegenFailure


def resource(name: str) -> Path:
    """The path of `name`: inside the package in an installed wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for home in (package, package.parent):
        if (home / name).exists():
            return home / name
    raise EegenFailure(f"{name} is missing from {package}: this installation of eegen is incomplete, reinstall it")
