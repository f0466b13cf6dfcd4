"""The programs that a C file can hold. Each is a list of entries, the functions that a host calls, over one state.

`train` differentiates the model. `infer` does not: it has no gradients, no moments, no batch and no data set, and what a
later call reads of an earlier one is a cache. One forward graph serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

from eegen.language.formats import F32, F64, I64, Format


@dataclass(frozen=True)
class Argument:
    """A number that an entry takes, beside the arena."""

    name: str
    format: Format = I64


@dataclass(frozen=True)
class Entry:
    """A function that a host calls on an arena. `returns` is None where it returns nothing."""

    name: str
    about: str
    arguments: tuple[Argument, ...] = ()
    returns: Format | None = None


@dataclass(frozen=True)
class Program:
    """`template` prints the entries, which call the procedures of the plan."""

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
        Entry("eegen_train_arena", "lays out the arena for the sizes in its header", (), I64),
        Entry("eegen_init", "draws the first weights"),
        Entry("eegen_train", "trains for some steps", (Argument("thread"), Argument("count")), I64),
        Entry("eegen_loss", "the loss of the chosen documents, summed over their positions", (Argument("n"),), F64),
        Entry("eegen_gradient", "the same, and the gradient of their mean loss", (Argument("n"),), F64),
        Entry("eegen_update", "one step of the optimizer with the gradients in memory", (Argument("lr", F32),)),
    ),
)
INFER = Program(
    name="infer",
    about="logits of prefixes, their loss, sampling",
    template="programs/infer.c.j2",
    differentiates=False,
    entries=(
        Entry("eegen_infer_arena", "lays out the arena for the sizes in its header", (), I64),
        Entry("eegen_evaluate", "the loss of prefixes, summed over their positions", (Argument("rows"), Argument("pairs"), Argument("positions")), F64),
        Entry("eegen_sample", "completes texts", (Argument("n"),)),
    ),
)
PROGRAMS = {program.name: program for program in (TRAIN, INFER)}

# Entries of every file, which work on no arena.
MACHINE_ENTRIES = (
    Entry("eegen_ticks", "clock ticks", (), I64),
    Entry("eegen_vector_bits", "the vector length that the file is written for", (), I64),
    Entry("eegen_machine_bits", "the vector length of the machine", (), I64),
    Entry("eegen_peak", "multiply-adds at the peak of the arithmetic units", (Argument("iterations"),), F32),
    Entry("eegen_peak_flops", "FLOPs of an iteration of that", (), I64),
)
