"""A hash of everything in this package that decides what C a configuration becomes."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def package_digest() -> str:
    """The hash of the package's Python and its templates, names and contents."""
    # A clone has its templates beside the package, a wheel inside it.
    folders = [PACKAGE] if (PACKAGE / "templates").is_dir() else [PACKAGE, PACKAGE.parent / "templates"]
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(_sources(str(folder))):
            with open(path, "rb") as file:
                text = file.read()
            total.update(f"{os.path.relpath(path, folder)}\0{len(text)}\0".encode())
            total.update(text)
    return total.hexdigest()


def _sources(folder: str) -> Iterator[str]:
    with os.scandir(folder) as items:
        for item in items:
            if item.is_dir():
                if item.name != "__pycache__":
                    yield from _sources(item.path)
            elif item.name.endswith((".py", ".j2")):
                yield item.path
