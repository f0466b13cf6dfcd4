"""Pass 4: memory for row buffers. Those that do not live at the same time share a slot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from eegen.plan.call import Item, calls_of
from eegen.plan.records import Buffer, Slot


def assign_slots(
    items: Sequence[Item], buffers: Mapping[str, Buffer], kept: Collection[str]
) -> tuple[dict[str, Buffer], tuple[Slot, ...]]:
    """A slot for every buffer. One whose last reader has run is free for the next of its shape.

    Buffers of lifetime `cache` have a slot of their own; those in `kept` hold their rows to the end of all calls.
    What a loop works on lives as long as the loop.
    """
    names = [dict.fromkeys(name for call in calls_of([item]) for name in (*call.reads, *call.writes)) for item in items]
    last = {name: i for i, touched in enumerate(names) for name in touched}
    slots: list[Slot] = []
    free: list[int] = []
    placed = dict(buffers)
    for i, touched in enumerate(names):
        for name in touched:
            buffer = placed.get(name)
            if buffer is None or buffer.slot >= 0:
                continue
            shape = Slot(buffer.domain, buffer.ld, buffer.format)
            shared = [] if buffer.lifetime == "cache" else [slot for slot in free if slots[slot] == shape]
            if shared:
                free.remove(shared[0])
            else:
                slots.append(shape)
            placed[name] = buffer._replace(slot=shared[0] if shared else len(slots) - 1)
        for name in touched:
            buffer = placed.get(name)
            if buffer is not None and last[name] == i and buffer.lifetime == "call" and name not in kept:
                free.append(buffer.slot)
    return placed, tuple(slots)
