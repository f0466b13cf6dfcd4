"""Engines: what runs the generated functions. This one loads them into the process."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from eegen.emit.entries import ENTRIES, declarations
from eegen.errors import EegenError
from eegen.run.header import Buffer, Header

# An arena begins on one, so that its addresses need few entries of the TLB and spread over all sets of L2.
HUGE_PAGE = 2 << 20


Self = TypeVar("Self", bound="Engine")


class Engine(ABC):
    """The generated functions, and the one arena that they work on."""

    in_process: ClassVar[bool]  # whether the functions run on this process's processor time

    @abstractmethod
    def allocate(self, header: Header) -> Buffer:
        """Lay out an arena for a header; its memory, which begins with the header."""

    @abstractmethod
    def call(self, function: str, *arguments: int) -> int | float | None:
        """Call an exported function by its name, on the arena if it takes one; what it returns."""

    @abstractmethod
    def close(self) -> None:
        """Release the memory."""

    def peak(self, iterations: int) -> None:
        """Run that many iterations of the loop of independent FMAs that peak speed is measured with."""
        self.call("eegen_peak", iterations)

    @property
    def peak_flops(self) -> int:
        """FLOPs of one iteration of `peak`."""
        return int(self.call("eegen_peak_flops") or 0)

    def ticks(self) -> int:
        """The clock that phases and kernels are counted by."""
        return int(self.call("eegen_ticks") or 0)

    def check_vectors(self, name: str) -> None:
        """Refuse a machine whose vectors are of another length than the code is written for."""
        built, here = self.call("eegen_vector_bits"), self.call("eegen_machine_bits")
        if built != here:
            raise EegenError(
                f"{name} is built for vectors of {built} bits and this machine's have {here}",
                svl_bits=f": build with `svl_bits` {here}",
            )

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


@lru_cache(maxsize=1)
def _ffi() -> Any:
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return ffi


class LibraryEngine(Engine):
    """A library loaded into this process, through cffi."""

    in_process = True

    def __init__(self, path: Path) -> None:
        self.ffi = _ffi()
        self.library = self.ffi.dlopen(str(path))
        self.arena: Any = self.ffi.NULL
        self.check_vectors(path.stem)

    def allocate(self, header: Header) -> Buffer:
        size = getattr(self.library, header.layout_entry)(self.ffi.from_buffer(header.memory))
        if (free := free_memory()) is not None and size > free:
            raise EegenError(
                f"this model and batch need {size / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free",
                batch=": choose a smaller model or `batch`",
            )
        try:
            mapped = mmap.mmap(-1, size + HUGE_PAGE)
        except (OSError, ValueError, OverflowError) as error:
            raise EegenError(f"this model and batch need {size / 2**30:.1f} GiB of memory: {error}") from None
        if hasattr(mmap, "MADV_HUGEPAGE"):
            mapped.madvise(mmap.MADV_HUGEPAGE)
        start = -int(self.ffi.cast("intptr_t", self.ffi.from_buffer(mapped))) % HUGE_PAGE
        memory = memoryview(mapped)[start : start + size]
        memory[: header.nbytes] = header.memory.tobytes()
        self.arena = self.ffi.from_buffer(memory)
        return memory

    def call(self, function: str, *arguments: int) -> int | float | None:
        arena = (self.arena,) if ENTRIES[function].on_arena else ()
        result: int | float | None = getattr(self.library, function)(*arena, *arguments)
        return result

    def close(self) -> None:
        self.arena = self.ffi.NULL


def free_memory() -> int | None:
    """Bytes that this process may still use, as far as Linux tells. A mapping beyond that succeeds; using it kills."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free
