"""An engine in a process of its own, under an emulator where need be, that shares the arena as a file."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from eegen.emit.arena import header_dtype
from eegen.errors import EegenError, EegenFailure

Array = np.ndarray


class EmulatedEngine:
    """The generated functions in a standalone program started as `prefix program --serve FILE`.

    FILE is the arena, mapped by both sides. A call is a line to the program, its answer a line from it.
    """

    def __init__(self, program: Path, prefix: list[str]) -> None:
        self.program = program
        self.file, self.path = _shared_file()
        self.errors: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        try:
            # A session of its own: Ctrl-C is for this process, which lets a running call end.
            self.process = subprocess.Popen(
                [*prefix, str(program), "--serve", self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self._forget()
            raise EegenFailure(
                f"{' '.join([*prefix, str(program)])} cannot be run: {error.strerror or error}"
            ) from None

    def allocate(self, header: Array) -> mmap.mmap:
        """Lay out the arena of a header, once, and give its memory."""
        dtype = header_dtype(1, 1)
        if header[: dtype.itemsize].view(dtype)["threads"][0] != 1:
            raise EegenError("an emulated target runs on one thread", threads="; leave `threads` at 1")
        os.pwrite(self.file, header.tobytes(), 0)
        size = int(self.call("eegen_arena"))
        return mmap.mmap(self.file, size)

    def call(self, function: str, *numbers: int) -> float | int:
        """The answer of a function; a program that died is an EegenFailure with the last it said."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(" ".join([function, *map(str, numbers)]) + "\n")
            self.process.stdin.flush()
            try:
                answer = self.process.stdout.readline()
            except KeyboardInterrupt:
                self.process.stdout.readline()
                raise
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise self._death()
        return float(answer) if any(c in answer for c in ".einf") else int(answer)

    def close(self) -> None:
        """End the program: it does when nobody can ask it any more."""
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
        self._forget()

    def _death(self) -> EegenError:
        code = self.process.wait()
        self.errors.seek(0)
        said = [line.strip() for line in self.errors if line.strip()]
        reason = said[-1].removeprefix("error: ") if said else _ending(code)
        # The program says exit code 2 where the input is at fault.
        return (EegenError if code == 2 else EegenFailure)(f"{self.program.name} stopped: {reason}")

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.file)
            if not self.path.startswith("/proc/"):
                os.unlink(self.path)
        self.errors.close()

    def __enter__(self) -> EmulatedEngine:
        return self

    def __exit__(self, *details: Any) -> None:
        self.close()


def _shared_file() -> tuple[int, str]:
    """A file of no name where there is such a thing (it cannot be left behind), else a temporary one."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("eegen-arena")
        return file, f"/proc/{os.getpid()}/fd/{file}"
    return tempfile.mkstemp(prefix="eegen-arena-")


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
