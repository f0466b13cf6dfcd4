"""Everything that decides the generated C of a model, and the stable name and digest of a build."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from eegen.errors import EegenError
from eegen.language.optimizers import OPTIMIZERS
from eegen.models.config import ModelConfig

SVL_BITS = (128, 256, 512, 1024, 2048)
SVL_DEFAULT = 0  # the target's own length


@dataclass(frozen=True)
class BuildConfig:
    """Everything that decides the generated C: the model, the target, the optimizer, profiling.

    `svl_bits` is the length of the streaming vectors that an SME target is built for. `tiles` are those measured to be
    better than the target's own: pairs of a product's or gradient's shape and rows, vectors, unroll factor.
    """

    model: ModelConfig
    target: str
    optimizer: str = "adam"
    profile: bool = False
    programs: tuple[str, ...] = ("train", "infer")
    svl_bits: int = SVL_DEFAULT
    tiles: tuple[tuple[str, tuple[int, int, int]], ...] = ()

    def __post_init__(self) -> None:
        if self.svl_bits not in (SVL_DEFAULT, *SVL_BITS):
            raise EegenError(f"`svl_bits` is {self.svl_bits}; it must be one of {', '.join(map(str, SVL_BITS))}")
        if self.optimizer not in OPTIMIZERS:
            raise EegenError(f"unknown optimizer '{self.optimizer}'; they are {', '.join(OPTIMIZERS)}")

    @property
    def name(self) -> str:
        parts = [self.model.title, self.target]
        if self.optimizer != "adam":
            parts.append(self.optimizer)
        if self.svl_bits != SVL_DEFAULT:
            parts.append(f"svl{self.svl_bits}")
        if "train" not in self.programs:
            parts.append("infer")
        if self.profile:
            parts.append("profile")
        return "-".join(parts)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()
