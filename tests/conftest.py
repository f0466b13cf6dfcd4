"""What the tests share: the bundled names and sessions that are closed again."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machines
import pytest

from eegen.run.data import load_documents, vocabulary
from eegen.run.session import Session
from eegen.toolchain import build_cache


def pytest_configure() -> None:
    """Tests of Ctrl-C need it to work: it is ignored where a shell started the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a temporary folder of the test's own, and no compiler asked for by the environment."""
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("EEGEN_CC", raising=False)
    monkeypatch.setattr(build_cache, "_noted", set())
    return tmp_path / "cache"
