"""From options to a compiled model: plan it, build it or take it from the cache, open it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from eegen.errors import EegenError
from eegen.models import FITS
from eegen.models.config import ModelConfig
from eegen.plan.build_config import SVL_DEFAULT, BuildConfig
from eegen.plan.planner import make_plan
from eegen.plan.records import Plan
from eegen.run.engine import Engine, LibraryEngine
from eegen.status import report
from eegen.targets import TARGETS, Target, best_target, runs_here
from eegen.toolchain import measured_tiles
from eegen.toolchain.cached_compilation import Build, build
from eegen.toolchain.compiler_search import find_compiler
from eegen.toolchain.emulators import emulator
from eegen.toolchain.package_digest import package_digest

if TYPE_CHECKING:
    from eegen.targets.tiles import Choice

Output = Literal["library", "object", "program", "server"]
"""What to build: a library or an object of it, a program for users, or one that serves calls (run/emulated.py)."""

SUFFIXES = {"program": "-standalone", "server": "-server"}


def pick_target(name: str) -> Target:
    """The target of that name; `auto` is the best that this machine runs."""
    if name == "auto":
        return best_target()
    if name not in TARGETS:
        raise EegenError(f"unknown target '{name}'; the targets are auto, {', '.join(TARGETS)}")
    return TARGETS[name]


@dataclass(frozen=True)
class Compiled:
    """A built model: its plan and what the compiler made of it."""

    plan: Plan
    build: Build
    output: Output

    def open_engine(self) -> Engine:
        """An engine of its own: a library in this process, a server in another, under an emulator where need be."""
        if self.output == "library":
            return LibraryEngine(self.build.path)
        from eegen.run.emulated import EmulatedEngine

        return EmulatedEngine(self.build.path, emulator(self.plan.target))


def compile_model(
    config: ModelConfig,
    target: str = "auto",
    *,
    optimizer: str = "adam",
    profile: bool = False,
    programs: Sequence[str] = ("train", "infer"),
    svl_bits: int | None = None,
    cc: str | None = None,
    kind: Output = "library",
    chars: str = "",
    flags: Sequence[str] = (),
    tiles: Mapping[str, Choice] | None = None,
) -> Compiled:
    """Build a model for a target, from the cache where it has been built before.

    A program has `chars`, the vocabulary of the data it is to read, compiled in. `tiles` are those that `eegen tune`
    has kept for this machine, unless given.
    """
    chosen = pick_target(target)
    if kind == "library" and (reason := runs_here(chosen)) is not None:
        hints = {"emulate": "; `emulate` runs it in QEMU"} if chosen.emulated_cpu else {}
        raise EegenError(f"target {chosen.name} cannot run on this machine: {reason}", **hints)
    if optimizer != "adam" and config.model in FITS:
        raise EegenError(f"`optimizer` means nothing to the model '{config.model}', which is not trained")
    if svl_bits is not None and not chosen.vector_lengths:
        raise EegenError(f"`svl_bits` means nothing to the target {chosen.name}")
    if svl_bits is not None and svl_bits not in chosen.vector_lengths:
        lengths = ", ".join(map(str, chosen.vector_lengths))
        raise EegenError(f"`svl_bits` is {svl_bits}; for {chosen.name} it must be one of {lengths}")
    compiler = find_compiler(cc)
    if tiles is None:
        tiles = {} if runs_here(chosen) else measured_tiles.load(chosen, compiler)
    settings = BuildConfig(
        config,
        chosen.name,
        optimizer,
        profile,
        tuple(programs),
        svl_bits or SVL_DEFAULT,
        tuple(sorted(tiles.items())),
    )
    plan = make_plan(settings)
    chars = chars if kind == "program" else ""
    name = settings.name + SUFFIXES.get(kind, "")

    def source() -> str:
        from eegen.run.sources import source_of  # with Jinja, which a build from the cache does not need

        report(f"compiling {name} with {compiler}; later runs take it from the cache")
        return source_of(plan, kind, name, chars)

    made = build(
        source,
        f"{package_digest()} {settings.digest} {kind} {chars}",
        plan.target,
        compiler,
        "program" if kind == "server" else kind,
        name,
        flags,
    )
    return Compiled(plan, made, kind)


class Programs:
    """A model's programs, compiled when one is first needed: to infer, a file without the one that trains is enough."""

    def __init__(self, config: ModelConfig, target: str = "auto", *, optimizer: str = "adam", **options: Any) -> None:
        """`options` as for `compile_model`."""
        self.config, self.target, self.optimizer = config, pick_target(target).name, optimizer
        self._options = options
        self._train: Compiled | None = None
        self._infer: Compiled | None = None

    def _compile(self, *programs: str) -> Compiled:
        return compile_model(self.config, self.target, optimizer=self.optimizer, programs=programs, **self._options)

    @property
    def train(self) -> Compiled:
        """The program that trains, in one file with the one that infers."""
        if self._train is None:
            self._train = self._compile("train", "infer")
        return self._train

    @property
    def infer(self) -> Compiled:
        """The program that infers: of the file that trains too, if there is one already."""
        if self._train is None and self._infer is None:
            self._infer = self._compile("infer")
        return self._train or self._infer or self.train
