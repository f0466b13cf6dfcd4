"""Several threads in one call of a generated function."""

from __future__ import annotations

import ctypes
import threading
from functools import lru_cache

from eegen.run.engine import Engine


def call_together(engine: Engine, function: str, threads: int, count: int) -> int:
    """Call `function(thread, count)` in that many threads at once; what thread 0, the calling one, returns."""
    helpers = [threading.Thread(target=engine.call, args=(function, i, count), daemon=True) for i in range(1, threads)]
    for helper in helpers:
        helper.start()
    done = int(engine.call(function, 0, count) or 0)
    for helper in helpers:
        helper.join()
    return done


@lru_cache(maxsize=1)
def yield_address() -> int:
    """The address of the C library's sched_yield, for threads that wait at a barrier."""
    function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0
