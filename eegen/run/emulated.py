"""An engine in a process of its own, under an emulator where need be, that shares the arena as a file."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from eegen.emit.entries import ENTRIES, parse
from eegen.errors import EegenError, EegenFailure
from eegen.run.engine import Engine
from eegen.run.header import Header


class EmulatedEngine(Engine):
    """The generated functions in a server (templates/server.c.j2), started as `prefix program FILE`.

    FILE is the arena, mapped by both sides. A call is a line to the program, its answer a line from it.
    """

    in_process = False

    def __init__(self, program: Path, prefix: list[str]) -> None:
        self.program = program
        self.file, self.path = _shared_file()
        self.errors: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        try:
            # A session of its own: Ctrl-C is for this process, which lets a running call end.
            self.process = subprocess.Popen(
                [*prefix, str(program), self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self._remove_files()
            raise EegenFailure(
                f"{' '.join([*prefix, str(program)])} cannot be run: {error.strerror or error}"
            ) from None
        try:
            self.check_vectors(program.name)
        except EegenError:
            self.close()
            raise

    def allocate(self, header: Header) -> mmap.mmap:
        """Lay out the arena of a header, once; its memory."""
        if header.threads != 1:
            raise EegenError("an emulated target runs on one thread", threads="; leave `threads` at 1")
        os.pwrite(self.file, header.memory.tobytes(), 0)
        return mmap.mmap(self.file, int(self.call(header.layout_entry) or 0))

    def call(self, function: str, *arguments: int) -> int | float | None:
        """The answer of a function; a program that died is an EegenFailure with the last line it printed."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(" ".join([function, *map(str, arguments)]) + "\n")
            self.process.stdin.flush()
            try:
                answer = self.process.stdout.readline()
            except KeyboardInterrupt:
                self.process.stdout.readline()
                raise
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise self._failure()
        return parse(ENTRIES[function], answer)

    def close(self) -> None:
        """End the program: it stops at the end of its input."""
        process = self.process
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._remove_files()

    def _failure(self) -> EegenError:
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        reason = lines[-1].removeprefix("error: ") if lines else _exit_reason(code)
        # The program exits with 2 where the input is at fault.
        return (EegenError if code == 2 else EegenFailure)(f"{self.program.name} stopped: {reason}")

    def _remove_files(self) -> None:
        file, self.file = self.file, -1
        with contextlib.suppress(OSError):
            os.close(file)
            if not self.path.startswith("/proc/"):
                os.unlink(self.path)
        self.errors.close()


def _shared_file() -> tuple[int, str]:
    """An anonymous file where the system has them (it cannot be left behind), else a temporary one."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("eegen-arena")
        return file, f"/proc/{os.getpid()}/fd/{file}"
    return tempfile.mkstemp(prefix="eegen-arena-")


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
