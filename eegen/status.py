"""What goes on that takes a while, for whoever wants to tell it."""

from __future__ import annotations

from collections.abc import Callable

listeners: list[Callable[[str], None]] = []


def note(what: str) -> None:
    for listener in listeners:
        listener(what)
