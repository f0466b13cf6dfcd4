"""Pass 2: which ops run in the kernel of another: chains of elementwise ops become the epilogue of a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eegen.language.graph import Region, Value


class Fusion(NamedTuple):
    """`chains`: a product and the ops of its epilogue, by the last value, where the kernel is called.

    `inside`: every value of a chain.
    """

    chains: Mapping[Value, tuple[Value, ...]]
    inside: frozenset[Value]


def fuse(regions: Sequence[Region], uses: Mapping[Value, list[Value]]) -> Fusion:
    """Chains of elementwise ops, each the only reader of the one before and in the same region."""
    chains: dict[Value, tuple[Value, ...]] = {}
    inside: set[Value] = set()
    for region in regions:
        within = set(region.values)
        for value in region.values:
            if value.op.kind != "product":
                continue
            chain = [value]
            while len(readers := uses.get(chain[-1], [])) == 1:
                (reader,) = readers
                if reader.op.kind != "elementwise" or reader not in within or reader.domain != value.domain:
                    break
                if reader in chains or reader.inputs.count(chain[-1]) != 1:
                    break
                chain.append(reader)
            if any(link in inside for link in chain[1:]):
                chain = chain[:1]
            chains[chain[-1]] = tuple(chain)
            inside.update(chain)
    return Fusion(chains, frozenset(inside))
