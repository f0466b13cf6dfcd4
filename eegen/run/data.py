"""Documents, their vocabulary, their split, and the prefix trie of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.resources import resource

MAX_VOCABULARY = 4097
"""Distinct characters and the boundary token together."""

MOST_MARKED = 64
"""Possible keys for each key up to which a table of them all is faster than sorting the keys."""

WHITESPACE = " \t\n\v\f\r"
"""What is stripped around a document: ASCII only, so that the standalone C strips the same without a Unicode table."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Every position of every document, flat: document `i` owns positions `starts[i]` to `starts[i + 1]`.

    `node[p]` numbers the prefix that ends at position `p`. Equal prefixes share a node; nodes are numbered level
    by level, so a parent comes before its children and node 0 is the lone boundary.
    """

    documents: list[str]
    chars: str
    vocab_size: int
    block_size: int
    starts: NDArray[np.int64]  # [documents + 1]
    token: NDArray[np.int32]  # [positions] what the model reads: the boundary, then the characters
    target: NDArray[np.int32]  # [positions] what it should predict
    node: NDArray[np.int32]  # [positions]
    n_nodes: int
    longest: int  # most positions of a document

    @property
    def positions(self) -> int:
        return len(self.token)

    def batches(self, size: int) -> Iterator[NDArray[np.int64]]:
        """All documents by number, `size` at a time, in sorted order: those of a batch share nearly all prefixes that
        they can.
        """
        order = np.array(sorted(range(len(self.documents)), key=self.documents.__getitem__))
        for start in range(0, len(order), size):
            yield order[start : start + size]

    @property
    def mean_positions(self) -> float:
        """Positions of an average document. Times the batch size, they are the positions of a step."""
        return self.positions / len(self.documents)


def bundled_names() -> Path:
    return resource("names.txt")


def load_documents(path: Path | None = None) -> list[str]:
    """One document a line, stripped, empty lines skipped; without a path, the bundled names."""
    path = bundled_names() if path is None else Path(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise EegenError(f"data file {path} does not exist") from None
    except IsADirectoryError:
        raise EegenError(f"data file {path} is a directory; give a text file with one document a line") from None
    except OSError as error:
        raise EegenError(f"data file {path} cannot be read: {error.strerror or error}") from None
    if (zero := raw.find(b"\0")) >= 0:
        raise EegenError(f"data file {path} is binary (a zero byte at offset {zero}); give UTF-8 text")
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"0x{raw[error.start]:02x}"
        raise EegenError(f"data file {path} is not UTF-8: byte {byte} at offset {error.start}, line {line}") from None
    lines = text.replace("\r", "\n").split("\n")
    documents = [document for line in lines if (document := line.strip(WHITESPACE))]
    if not documents:
        raise EegenError(f"data file {path} is empty; give at least one line of text")
    return documents


def vocabulary(documents: Sequence[str]) -> str:
    """The sorted distinct characters: character `i` is token `i`, and the boundary is the token after the last."""
    chars = "".join(sorted(set("".join(documents))))
    if len(chars) >= MAX_VOCABULARY:
        raise EegenError(f"the data has {len(chars)} distinct characters; at most {MAX_VOCABULARY - 1} are possible")
    return chars


def build_dataset(documents: Sequence[str], chars: str, block_size: int) -> Dataset:
    """Positions and prefix trie of `documents`; each keeps its first `block_size` positions."""
    documents = list(documents)
    if not documents:
        raise EegenError("the data has no documents; at least one is needed")
    boundary = len(chars)
    lengths = np.fromiter(map(len, documents), np.int64, len(documents))
    tokens = _tokens(documents, lengths, chars)

    # All documents in one stream, a boundary before each and one at the end: targets are the stream one step later.
    separate = np.repeat(np.arange(1, len(documents) + 1), lengths)
    stream = np.full(len(tokens) + len(documents) + 1, boundary, np.int32)
    stream[np.arange(len(tokens)) + separate] = tokens
    opening = np.cumsum(lengths + 1) - (lengths + 1)
    level = np.arange(len(stream) - 1) - np.repeat(opening, lengths + 1)
    kept = level < block_size

    counts = np.minimum(lengths + 1, block_size)
    starts = np.concatenate(([0], np.cumsum(counts)))
    token = stream[:-1][kept]
    node, n_nodes = _trie(token, starts, boundary + 1)
    return Dataset(
        documents=documents,
        chars=chars,
        vocab_size=boundary + 1,
        block_size=block_size,
        starts=starts,
        token=token,
        target=stream[1:][kept],
        node=node,
        n_nodes=n_nodes,
        longest=int(counts.max()),
    )


def split(documents: Sequence[str], fraction: float, seed: int, dedupe: bool = False) -> tuple[list[str], list[str]]:
    """Training and validation documents, in file order, no document in both.

    `seed` picks `fraction` of the distinct documents for validation, each once. Training keeps every occurrence
    of the others, or one of each with `dedupe`.
    """
    if not 0 < fraction < 1:
        raise EegenError(f"the validation fraction must lie between 0 and 1, not {fraction:g}")
    distinct = list(dict.fromkeys(documents))
    if len(distinct) < 2:
        raise EegenError(f"a validation split needs at least 2 distinct documents, the data has {len(distinct)}")
    held = min(max(round(fraction * len(distinct)), 1), len(distinct) - 1)
    # RandomState, unlike Generator, promises the same stream in every NumPy: a resumed run keeps its split.
    order = np.random.RandomState(np.random.MT19937(seed)).permutation(len(distinct))
    validation = [distinct[i] for i in np.sort(order[:held])]
    held_out = set(validation)
    return [document for document in (distinct if dedupe else documents) if document not in held_out], validation


def _tokens(documents: list[str], lengths: NDArray[np.int64], chars: str) -> NDArray[np.int32]:
    """Tokens of all characters of all documents, end to end."""
    codes = _code_points("".join(documents))
    known = _code_points(chars)
    table = np.full(int(max(codes.max(initial=0), known.max(initial=0))) + 1, -1, np.int32)
    table[known] = np.arange(len(known))
    tokens = table[codes]
    if len(tokens) and tokens.min() < 0:
        at = int(np.argmax(tokens < 0))
        document = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
        character = chr(codes[at])
        raise EegenError(
            f"document {document + 1} ({documents[document][:40]!r}) has the character {character!r}, "
            f"which is not among the {len(chars)} the model knows"
        )
    return tokens


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _trie(token: NDArray[np.int32], starts: NDArray[np.int64], vocab_size: int) -> tuple[NDArray[np.int32], int]:
    """The node of each position and how many there are: a node is one (parent node, token), found level by level."""
    node = np.zeros(len(token), np.int32)
    above, n_nodes = 0, 1  # every document opens at the boundary, node 0; the level above begins at node `above`
    first, counts = starts[:-1], np.diff(starts)
    for level in range(1, int(counts.max())):
        at = first[counts > level] + level
        keys = (node[at - 1] - above).astype(np.int64) * vocab_size + token[at]
        distinct, which = _rank(keys, (n_nodes - above) * vocab_size)
        above = n_nodes
        node[at] = n_nodes + which
        n_nodes += distinct
    return node, n_nodes


def _rank(keys: NDArray[np.int64], limit: int) -> tuple[int, NDArray[np.int64]]:
    """How many distinct keys there are, all below `limit`, and the place of each among them in order."""
    if limit > MOST_MARKED * len(keys):
        distinct, places = np.unique(keys, return_inverse=True)
        return len(distinct), places
    marked = np.zeros(limit, bool)
    marked[keys] = True
    distinct = np.flatnonzero(marked)
    place = np.empty(limit, np.int64)
    place[distinct] = np.arange(len(distinct))
    return len(distinct), place[keys]
