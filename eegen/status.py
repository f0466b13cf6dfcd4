"""Messages about work that takes a while, such as compiling, for a command line to print."""

from __future__ import annotations

from collections.abc import Callable

listeners: list[Callable[[str], None]] = []


def report(message: str) -> None:
    for listener in listeners:
        listener(message)
