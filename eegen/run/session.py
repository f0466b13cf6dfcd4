"""A compiled model at work: its library, its arena, and NumPy views of everything in it."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eegen.emit import arena
from eegen.errors import EegenError
from eegen.language.optimizers import NUMBERS
from eegen.models import FITS
from eegen.plan.planner import Parameter, Plan
from eegen.run.data import Dataset

Array = np.ndarray
Buffer = mmap.mmap | memoryview

# An arena begins on one, so that its addresses cost few entries of the TLB and no sets of L2 fight over pages.
HUGE_PAGE = 2 << 20

PROTOTYPES = """
int64_t eegen_arena(void *arena);
void eegen_init(void *arena);
int64_t eegen_train(void *arena, int64_t thread, int64_t count);
double eegen_loss(void *arena, int64_t n);
double eegen_gradient(void *arena, int64_t n);
void eegen_sample(void *arena, int64_t n);
uint64_t eegen_ticks(void);
int64_t eegen_vector_bits(void);
int64_t eegen_machine_bits(void);
float eegen_peak(int64_t turns);
int64_t eegen_peak_flops(void);
"""


@lru_cache(maxsize=1)
def _ffi() -> Any:
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(PROTOTYPES)
    return ffi


class Engine(Protocol):
    """Who runs the generated functions: this process, or an emulated one that shares the arena."""

    def allocate(self, header: Array) -> Buffer:
        """Lay out an arena for a header and give its memory, the header in it."""

    def call(self, function: str, *numbers: int) -> float | int | None:
        """Call a function on the arena last allocated."""

    def close(self) -> None: ...


class Library:
    """The generated functions in this process, through cffi."""

    def __init__(self, path: Path) -> None:
        self.ffi = _ffi()
        self.lib = self.ffi.dlopen(str(path))
        self.arena: Any = self.ffi.NULL
        built, here = self.lib.eegen_vector_bits(), self.lib.eegen_machine_bits()
        if built != here:
            raise EegenError(
                f"{path.stem} is built for streaming vectors of {built} bits and this machine's have {here}: "
                f"build with --svl-bits {here}"
            )

    def allocate(self, header: Array) -> Buffer:
        size = self.lib.eegen_arena(self.ffi.from_buffer(header))
        if (free := free_memory()) is not None and size > free:
            raise EegenError(
                f"this model and batch need {size / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free: "
                "choose a smaller model or --batch"
            )
        try:
            mapped = mmap.mmap(-1, size + HUGE_PAGE)
        except (OSError, ValueError, OverflowError) as error:
            raise EegenError(f"this model and batch need {size / 2**30:.1f} GiB of memory: {error}") from None
        if hasattr(mmap, "MADV_HUGEPAGE"):
            mapped.madvise(mmap.MADV_HUGEPAGE)
        start = -int(self.ffi.cast("intptr_t", self.ffi.from_buffer(mapped))) % HUGE_PAGE
        memory = memoryview(mapped)[start : start + size]
        memory[: header.nbytes] = header.tobytes()
        self.arena = self.ffi.from_buffer(memory)
        return memory

    def call(self, function: str, *numbers: int) -> float | int | None:
        return getattr(self.lib, function)(self.arena, *numbers)

    def close(self) -> None:
        self.arena = self.ffi.NULL


class Session:
    """One model with its weights, optimizer state and data, ready to train, evaluate and sample."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        data: Dataset,
        *,
        batch: int = 16,
        seed: int = 42,
        random: bool = True,
        sharing: bool = True,
        threads: int = 1,
        chunk: int = 1024,
        longest: int = 0,
    ) -> None:
        self.plan, self.engine, self.data, self.seed = plan, engine, data, seed
        self.dtype = arena.header_dtype(len(plan.slots), len(plan.kernels))
        header = np.zeros(-(-self.dtype.itemsize // 64) * 64, np.uint8)
        fields = header[: self.dtype.itemsize].view(self.dtype)[0]
        fields["documents"], fields["positions"], fields["nodes"] = len(data.starts) - 1, len(data.token), data.n_nodes
        fields["batch"], fields["longest"], fields["chunk"] = batch, longest or data.longest, chunk
        fields["threads"], fields["sharing"], fields["random"] = threads, sharing, random
        fields["rng"] = seed
        for name, value in NUMBERS.items():
            fields[name] = value
        fields["temperature"] = 1.0
        if threads > 1 and isinstance(engine, Library):
            fields["yield"] = _yield_address()
        self.memory = engine.allocate(header)
        self.header = np.frombuffer(self.memory, self.dtype, 1)[0]
        self.base = len(header)
        self.array("starts", len(data.starts))[:] = data.starts
        place = self.array("place", len(data.node))
        place[:] = data.node
        place <<= np.uint64(32)
        place |= data.target.astype(np.uint64) << np.uint64(16)
        place |= data.token.astype(np.uint64)

    # --- memory -----------------------------------------------------------------------------------

    def array(self, name: str, size: int) -> Array:
        """The first `size` items of an array of the arena, as a view."""
        kind = next(a.type for a in arena.ARRAYS if a.name == name)
        return np.frombuffer(self.memory, kind, size, int(self.header[f"at_{name}"]))

    def _region(self, number: int) -> Array:
        """All floats of the weights (0), their gradients (1), the optimizer's slots (2, ...)."""
        offset = self.base + 4 * (number * self.plan.weights + (self.plan.packed_size if number else 0))
        return np.frombuffer(self.memory, np.float32, self.plan.weights, offset)

    def _views(self, number: int) -> dict[str, Array]:
        region = self._region(number)
        return {name: view for p in self.plan.parameters for name, view in parameter_views(p, region)}

    @property
    def parameters(self) -> dict[str, Array]:
        """Every named tensor [out][in], a view of the memory that training writes."""
        return self._views(0)

    @property
    def gradients(self) -> dict[str, Array]:
        return self._views(1)

    @property
    def optimizer(self) -> dict[str, Array]:
        """The optimizer's state as `<slot>.<tensor>`, views too."""
        return {
            f"{slot}.{name}": view
            for i, slot in enumerate(self.plan.moments)
            for name, view in self._views(2 + i).items()
        }

    # --- work -------------------------------------------------------------------------------------

    def init(self) -> None:
        """Draw the first weights from the stream of the seed."""
        self.engine.call("eegen_init")

    def fit(self) -> None:
        """Set the parameters of a model that is computed from its data, not trained."""
        for name, values in FITS[self.plan.build.model.model](self.data).items():
            self.parameters[name][:] = values

    def train(self, lr: Array) -> Array:
        """One step for each learning rate (at most `chunk`); the losses, fewer where one is not a number."""
        count = len(lr)
        self.array("lr", count)[:] = lr
        helpers = [
            threading.Thread(target=self.engine.call, args=("eegen_train", i, count), daemon=True)
            for i in range(1, int(self.header["threads"]))
        ]
        for helper in helpers:
            helper.start()
        done = int(self.engine.call("eegen_train", 0, count) or 0)
        for helper in helpers:
            helper.join()
        return self.array("losses", count)[: done + (done < count)].copy()

    def choose(self, documents: Array) -> int:
        self.array("chosen", len(documents))[:] = documents
        return len(documents)

    def loss(self) -> float:
        """Mean loss a position over every document of the data set, each distinct prefix computed once.

        Documents go in sorted order, so that a chunk of them shares nearly all it can.
        """
        order = np.array(sorted(range(len(self.data.documents)), key=self.data.documents.__getitem__), np.int32)
        total = 0.0
        count = 0
        for part in self._parts(order):
            total += float(self.engine.call("eegen_loss", self.choose(part)) or 0.0)
            count += int(self.header["count"])
        return total / count

    def _parts(self, order: Array) -> Iterator[Array]:
        size = int(self.header["batch"])
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def gradient(self, documents: Array) -> float:
        """Mean loss of these documents (numbers); the gradients are left in `gradients`."""
        total = float(self.engine.call("eegen_gradient", self.choose(documents)) or 0.0)
        return total / int(self.header["count"])

    def sample(self, count: int, temperature: float, prefix: list[int], seed: int) -> list[list[int]]:
        """Token lists of `count` samples that begin with `prefix`; sample i is the same for every count."""
        block = self.plan.build.model.block_size
        most = int(self.header["samples"])
        boundary = self.plan.build.model.vocab_size - 1
        self.header["temperature"] = temperature
        streams = sample_streams(seed, count)
        result: list[list[int]] = []
        while len(result) < count:
            n = min(most, count - len(result))
            text = self.array("text", n * (block + 1)).reshape(n, block + 1)
            text[:] = -1
            text[:, : len(prefix)] = prefix
            self.array("stream", n)[:] = streams[len(result) : len(result) + n]
            self.engine.call("eegen_sample", n)
            result += [list(row[:length]) for row, length in zip(text.tolist(), self.array("length", n), strict=True)]
        assert all(boundary not in tokens for tokens in result)
        return result


def parameter_views(p: Parameter, region: Array) -> Iterator[tuple[str, Array]]:
    """The named tensors of a parameter as views [out][in] of a region that holds all of them."""
    whole = region[p.offset : p.offset + p.size].reshape(p.rows, p.ld)
    if len(p.shape) == 1:
        yield p.parts[0].name, whole[0, : p.shape[0]]
        return
    matrix = whole.T if p.flipped else whole
    for i, part in enumerate(p.parts):
        start = i * p.segment
        yield part.name, matrix[start : start + part.stop - part.start, : p.shape[1]]


def sample_streams(seed: int, count: int) -> Array:
    """The state each sample's own random stream starts from: draws of the seed's stream."""
    mask, x, states = (1 << 64) - 1, seed, []
    for _ in range(count):
        x ^= x << 13 & mask
        x ^= x >> 7
        x ^= x << 17 & mask
        states.append(x)
    return np.array(states, np.uint64)


@lru_cache(maxsize=1)
def _yield_address() -> int:
    """Where the C library's sched_yield is, for threads that wait."""
    function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def free_memory() -> int | None:
    """Bytes that this process may still use, as far as Linux tells: mapping more than that succeeds, using it kills."""
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
