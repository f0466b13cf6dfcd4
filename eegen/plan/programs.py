"""The programs that a C file can hold. Each is a list of entries, the functions that a host calls, over one state.

`train` differentiates the model. `infer` does not: it has no gradients, no moments, no batch and no data set, and what
a later call reads of an earlier one is a cache. One forward graph serves both.
"""

from __future__ import annotations

from typing import NamedTuple

from eegen.language.formats import F32, F64, I64, Format


class Entry(NamedTuple):
    """A function that a host calls: on an arena unless it says otherwise, with whole numbers as further parameters.

    `returns` is None where it returns nothing.
    """

    name: str
    parameters: tuple[str, ...] = ()
    returns: Format | None = None
    on_arena: bool = True


class Program(NamedTuple):
    """`template` prints the entries, which call the procedures of the plan. The first lays out the arena."""

    name: str
    about: str
    template: str
    differentiates: bool
    entries: tuple[Entry, ...]


TRAIN = Program(
    name="train",
    about="batches, forward, loss, backward, update",
    template="programs/train.c.j2",
    differentiates=True,
    entries=(
        Entry("eegen_train_arena", (), I64),
        Entry("eegen_init"),
        Entry("eegen_train", ("thread", "count"), I64),
        Entry("eegen_loss", ("n",), F64),
        Entry("eegen_gradient", ("n",), F64),
        Entry("eegen_update"),
    ),
)
INFER = Program(
    name="infer",
    about="logits of prefixes, their loss, sampling",
    template="programs/infer.c.j2",
    differentiates=False,
    entries=(
        Entry("eegen_infer_arena", (), I64),
        Entry("eegen_evaluate", ("rows", "pairs", "positions"), F64),
        Entry("eegen_sample", ("n",)),
    ),
)
PROGRAMS = {program.name: program for program in (TRAIN, INFER)}

# Entries of every file.
MACHINE_ENTRIES = (
    Entry("eegen_ticks", (), I64, on_arena=False),
    Entry("eegen_vector_bits", (), I64, on_arena=False),
    Entry("eegen_machine_bits", (), I64, on_arena=False),
    Entry("eegen_peak", ("iterations",), F32, on_arena=False),
    Entry("eegen_peak_flops", (), I64, on_arena=False),
)
