"""The bigram of counts: its table of logits is computed from the data at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eegen.models.bigram import bigram
from eegen.models.config import ModelSpec


def count_bigrams(
    token: NDArray[np.int32], target: NDArray[np.int32], vocab_size: int
) -> dict[str, NDArray[np.float64]]:
    """The table whose softmax is the frequency of each target token after each token, one added to every count."""
    counts = np.ones((vocab_size, vocab_size))
    np.add.at(counts, (token, target), 1)
    return {"table": np.log(counts / counts.sum(axis=1, keepdims=True))}


MODEL = ModelSpec("bigram-count", bigram, fit=count_bigrams)
