"""The random stream of the generated C, in Python: xorshift64, whose first state is the seed."""

from __future__ import annotations

import numpy as np

MAX_SEED = (1 << 64) - 1


def next_state(x: int) -> int:
    x ^= x << 13 & MAX_SEED
    x ^= x >> 7
    x ^= x << 17 & MAX_SEED
    return x


def sample_streams(seed: int, count: int) -> np.ndarray:
    """The state that each sample's own random stream starts from: draws of the seed's stream."""
    x, states = seed, []
    for _ in range(count):
        x = next_state(x)
        states.append(x)
    return np.array(states, np.uint64)
