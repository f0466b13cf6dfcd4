"""The documents of a model: where they are from, which of them are held out, and their data sets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from eegen.errors import EegenError
from eegen.run.data import Dataset, build_dataset, load_documents, split

Data = str | os.PathLike[str] | Sequence[str] | None
"""A file of one document a line, a list of documents, or None for the bundled names."""


class Corpus:
    """Documents with the vocabulary that they are read with.

    Without `documents`, those of the file `path` (or the bundled names) are read when they are first needed.
    `trained_on` is the digest of the documents that a checkpoint was trained on.
    """

    def __init__(
        self,
        chars: str,
        block_size: int,
        documents: list[str] | None = None,
        path: str | None = None,
        trained_on: str | None = None,
    ) -> None:
        self.chars, self.block_size, self.path, self.trained_on = chars, block_size, path, trained_on
        self._documents = documents
        self._digest: str | None = None

    @property
    def documents(self) -> list[str]:
        if self._documents is None:
            documents = load_documents(Path(self.path) if self.path else None)
            if not self.path and self.trained_on and digest(documents) != self.trained_on:
                raise EegenError("this checkpoint was trained on documents of no file: give them as data")
            self._documents = documents
        return self._documents

    @property
    def digest(self) -> str:
        if self._digest is None:
            self._digest = digest(self.documents)
        return self._digest

    @property
    def unread(self) -> bool:
        """Whether the documents have not been needed yet."""
        return self._documents is None

    def dataset(self, documents: Sequence[str]) -> Dataset:
        return build_dataset(documents, self.chars, self.block_size)

    def training_set(self, val: float | None, seed: int) -> Dataset:
        """All documents, or those that are left when a part of them is held out."""
        return self.dataset(self.documents if val is None else split(self.documents, val, seed)[0])

    def validation_set(self, val: float | None, seed: int) -> Dataset | None:
        """The documents held out, if any are."""
        return None if val is None else self.dataset(split(self.documents, val, seed)[1])

    def smallest(self) -> Dataset:
        """A data set of one character, for a session in which only the weights matter."""
        return self.dataset([self.chars[:1]])


def digest(documents: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(documents).encode("utf-8", "surrogatepass")).hexdigest()


def documents_of(data: Data) -> list[str]:
    if data is None or isinstance(data, str | os.PathLike):
        return load_documents(None if data is None else Path(data))
    return list(data)


def path_of(data: Data) -> str | None:
    """Where data came from, for a checkpoint: a path, or None for the bundled names and for a list."""
    return os.path.abspath(data) if isinstance(data, str | os.PathLike) else None
