"""What the tests share: the bundled names and sessions that are closed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import machines
import pytest

from eegen.run.data import load_documents, vocabulary
from eegen.run.session import Session


@pytest.fixture(scope="session")
def names() -> list[str]:
    return load_documents()


@pytest.fixture(scope="session")
def letters(names: list[str]) -> str:
    return vocabulary(names)


@pytest.fixture
def open_session() -> Iterator[Callable[..., Session]]:
    """`machines.open_session`, every session of it closed after the test."""
    opened: list[Session] = []

    def opening(*args: Any, **options: Any) -> Session:
        opened.append(machines.open_session(*args, **options))
        return opened[-1]

    yield opening
    for session in opened:
        session.engine.close()
