"""Pass 5: where threads wait for each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eegen.plan.call import Call, CallLoop, Item
from eegen.plan.records import Buffer


def place_barriers(items: Sequence[Item], buffers: Mapping[str, Buffer]) -> tuple[Item, ...]:
    """A call waits for the others where it meets memory that another thread may be using since the last wait."""
    calls = [as_one(item) for item in items]
    few, many = waits(calls, buffers, False), waits(calls, buffers, True)
    found: list[Item] = []
    for i, item in enumerate(items):
        if i in many or i in few:
            item = replace(item, barrier="always" if i in many else "few")
        found.append(item)
    return tuple(found)


def as_one(item: Item) -> Call:
    """A loop as one call that reads and writes what its calls do: rows of the thread's own."""
    if not isinstance(item, CallLoop):
        return item
    writes = tuple(dict.fromkeys(name for call in item.items for name in call.writes))
    reads = tuple(dict.fromkeys(name for call in item.items for name in call.reads if name not in writes))
    return replace(item.items[0], reads=reads, writes=writes)


def waits(calls: Sequence[Call], buffers: Mapping[str, Buffer], many: bool) -> set[int]:
    """The calls that wait, where rows are few or so many that threads exchange sums of weight gradients.

    They do in two phases with a wait between them: each adds up its own rows for the others, then for itself.
    """
    found = set()
    since: list[Call] = []
    for i, call in enumerate(calls):
        two_phases = many and call.exchanges
        first = replace(call, writes=call.writes[:1], units=0) if two_phases else call
        if any(conflict(earlier, first, buffers) for earlier in since):
            found.add(i)
            since = []
        since = [replace(call, units=0)] if two_phases else [*since, call]
    return found


def conflict(one: Call, two: Call, buffers: Mapping[str, Buffer]) -> bool:
    """May threads meet, one of them in each of these calls? They do not in rows of their own."""
    shared = memory(one.writes, buffers) & memory(two.reads + two.writes, buffers)
    shared |= memory(one.reads, buffers) & memory(two.writes, buffers)
    if one.whole or two.whole:
        return bool(shared)
    return any(isinstance(place, str) for place in shared) and not (one.adds and two.adds)


def memory(names: Sequence[str], buffers: Mapping[str, Buffer]) -> set[int | str]:
    """Slots of buffers; gradients and weights by their names."""
    return {buffers[name].slot if name in buffers else name for name in names}
