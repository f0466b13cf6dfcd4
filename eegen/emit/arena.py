"""The one block of memory a model lives in: its header, field by field, for C and for NumPy alike.

The host writes the sizes, asks `eegen_arena` to lay the block out, and finds every array by the byte offsets
that this leaves in the header. No pointer is stored, so two processes can share the block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MAX_THREADS = 64


class Field(NamedTuple):
    name: str
    type: str  # i8, u8, f8
    about: str
    length: int = 1


class Array(NamedTuple):
    """A region of the arena: `at_<name>` bytes in, `size` items (an expression over the header) of `type`.

    `programs` are those whose state it belongs to; in the arena of another it does not exist.
    """

    name: str
    type: str  # f4, i4, i8, u8
    size: str
    about: str
    programs: tuple[str, ...] = ("train",)


FIELDS = (
    Field("documents", "i8", "documents in the data set"),
    Field("positions", "i8", "positions in the data set"),
    Field("nodes", "i8", "distinct prefixes in the data set"),
    Field("batch", "i8", "documents a step"),
    Field("longest", "i8", "most positions of a document"),
    Field("chunk", "i8", "steps a call, at most"),
    Field("threads", "i8", "threads that run a step together"),
    Field("sharing", "i8", "1: equal prefixes share a row"),
    Field("random", "i8", "1: documents by chance, 0: in file order"),
    Field("rng", "u8", "state of the random stream"),
    Field("prefetched", "u8", "its state before and after the documents of the next step, which are prefetched", 2),
    Field("cursor", "i8", "next document in file order"),
    Field("step", "i8", "optimizer steps done"),
    Field("beta1", "f8", ""),
    Field("beta2", "f8", ""),
    Field("eps", "f8", ""),
    Field("weight_decay", "f8", ""),
    Field("momentum", "f8", ""),
    Field("clip", "f8", "largest global norm of the gradient, 0: any"),
    Field("temperature", "f8", "of sampling"),
    Field("yield", "i8", "address of a function that gives up the processor, or 0"),
    Field("bytes", "i8", "size of the arena"),
    Field("row_capacity", "i8", "rows that the buffers hold"),
    Field("keys", "i8", "entries a row in the lists of ancestors"),
    Field("samples", "i8", "samples at a time, at most"),
    Field("rows", "i8", "prefix rows of this batch"),
    Field("pairs", "i8", "(token, position) rows of this batch"),
    Field("count", "i8", "positions of this batch"),
    Field("stamp", "i8", "number of this batch"),
    Field("total_rows", "i8", "prefix rows of all batches so far"),
    Field("total_pairs", "i8", "pair rows of all batches so far"),
    Field("total_count", "i8", "positions of all batches so far"),
    Field("ticks", "u8", "batch, forward, backward, update: clock ticks so far", 4),
    Field("loss", "f8", "each thread's part of the loss of this batch", MAX_THREADS),
    Field("squares", "f8", "each thread's part of the squares of the gradient, where it is clipped", MAX_THREADS),
    Field("arrived", "i8", "threads waiting at the barrier"),
    Field("phase", "i8", "barriers passed"),
)

BOTH = ("train", "infer")

# `rows` here is row_capacity, the 16 rows of slack included; `entries` those of all rows' lists of ancestors
ARRAYS = (
    Array("starts", "i8", "documents + 1", "first position of each document"),
    Array(
        "place",
        "u8",
        "positions",
        "node << 32 | target << 16 | token: the prefix that ends there, what follows, what is read",
    ),
    Array("chosen", "i4", "batch", "documents of this batch"),
    Array("next_chosen", "i4", "batch", "documents of the next batch, if the stream is where `prefetched` says"),
    Array("at", "i4", "batch", "position of each document at the level that is being found"),
    Array("end", "i4", "batch", "end of each document"),
    Array("seen", "u8", "nodes", "stamp << 32 | row of each prefix"),
    Array("pair_seen", "u8", "VOCAB * BLOCK", "stamp << 32 | row of each (token, position)"),
    Array("levels", "i8", "threads", "levels of each thread's rows"),
    Array("level", "i8", "(BLOCK + 1) * threads", "first row of each level, for each thread", BOTH),
    Array("first_document", "i8", "threads + 1", "first of each thread's documents among the chosen"),
    Array("first_row", "i8", "threads + 1", "first of each thread's rows"),
    Array("first_pair", "i8", "threads + 1", "first of each thread's pair rows"),
    Array("first_position", "i8", "threads + 1", "first of each thread's positions"),
    Array("last", "i4", "batch", "row of each document at the level before", BOTH),
    Array("pair_token", "i4", "rows", "token of a pair row", BOTH),
    Array("pair_position", "i4", "rows", "position of a pair row", BOTH),
    Array("pair_of", "i4", "rows", "pair row of a prefix row", BOTH),
    Array("depth", "i4", "rows", "position of a prefix row", BOTH),
    Array("parent", "i4", "rows", "row of the prefix without its last token, -1 at the root", BOTH),
    Array("count", "i4", "rows", "positions of the batch at this row", BOTH),
    Array("target_at", "i8", "targets", "where the logit of each position's target is among the logits", BOTH),
    Array("target_counts", "f4", "rows * LOGITS", "positions with this logit as their target, 0 between calls", BOTH),
    Array("sample_of", "i4", "rows", "sample of a row", ("infer",)),
    Array("ancestors_prefix", "i4", "entries", "prefix rows of a row's ancestors, itself last and repeated", BOTH),
    Array("ancestors_pair", "i4", "entries", "the same as pair rows", BOTH),
    Array("scratch", "f4", "SCRATCH * threads", "transposed operands, a part for each thread", BOTH),
    Array("sums", "f4", "SUMS * threads", "each thread's part of gradients that are summed row by row"),
    Array("work", "f4", "WORK * threads", "a matrix parameter while the optimizer works on it, one for each thread"),
    Array("lr", "f4", "chunk", "learning rate of each step of a call"),
    Array("losses", "f4", "chunk", "loss of each step of a call"),
    Array("stream", "u8", "batch", "random stream of each sample", ("infer",)),
    Array("text", "i4", "batch * (BLOCK + 1)", "tokens of each sample, -1: to be drawn", ("infer",)),
    Array("length", "i4", "batch", "tokens of each sample", ("infer",)),
)


def header_dtype(slots: int, kernels: int) -> np.dtype:
    """The header as NumPy sees it, for a plan of that many row-buffer slots and (profiled) kernels."""
    names = [f.name for f in FIELDS] + [f"at_{a.name}" for a in ARRAYS] + ["at_slot", "kernel_ticks"]
    formats: list[object] = [f.type if f.length == 1 else (f.type, f.length) for f in FIELDS]
    formats += ["i8"] * len(ARRAYS) + [("i8", max(slots, 1)), ("u8", max(kernels, 1))]
    return np.dtype({"names": names, "formats": formats})
