"""The machines that generated C is tested on: this one, and Arm ones under QEMU where this is not one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pytest

from eegen.models.config import ModelConfig
from eegen.run.data import build_dataset, vocabulary
from eegen.run.infer_session import InferSession
from eegen.run.model_builds import Output, compile_model
from eegen.run.session import Session
from eegen.targets import TARGETS, runs_here
from eegen.toolchain.emulators import find_qemu


@dataclass(frozen=True)
class Machine:
    """A target, and the length of its vectors where that is not its own."""

    target: str
    svl_bits: int | None = None

    def __str__(self) -> str:
        return f"{self.target}-{self.svl_bits}" if self.svl_bits else self.target

    @property
    def native(self) -> bool:
        return self.svl_bits is None and runs_here(TARGETS[self.target]) is None

    def need(self) -> None:
        """Skip the running test where nothing runs this machine; a CI machine has to have QEMU."""
        target = TARGETS[self.target]
        reason = runs_here(target)
        if reason is None:
            return
        if target.emulated_cpu is None or target in (TARGETS[machine.target] for machine in NATIVE):
            pytest.skip(reason)
        if find_qemu(target.machine) is None:
            missing(f"{reason}, and there is no QEMU")


NATIVE = [Machine("scalar"), Machine("avx2"), Machine("avx512")]
ARM = [Machine("neon"), Machine("sme2"), Machine("sme2", 128), Machine("sme2", 256)]
RISCV = [Machine("rvv"), Machine("rvv", 128), Machine("rvv", 512)]
EVERY = NATIVE + ARM + RISCV
EACH_TARGET = NATIVE + ARM[:2] + RISCV[:1]


def missing(what: str) -> NoReturn:
    """A tool that this machine lacks: a test is skipped for it on a laptop, and fails in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def parameters(machines: Sequence[Machine]) -> list[Any]:
    """Machines as arguments of a parametrized test, the emulated ones marked slow."""
    return [pytest.param(m, id=str(m), marks=[] if m in NATIVE or m.native else [pytest.mark.slow]) for m in machines]


def open_session(
    machine: Machine,
    config: ModelConfig,
    documents: Sequence[str],
    chars: str = "",
    *,
    spread: float = 1.0,
    optimizer: str = "adam",
    **options: Any,
) -> Session:
    """A session with its first weights, `spread` times as far from zero as usual."""
    machine.need()
    kind: Output = "library" if machine.native else "server"
    made = compile_model(config, machine.target, optimizer=optimizer, svl_bits=machine.svl_bits, kind=kind)
    data = build_dataset(documents, chars or vocabulary(documents), config.block_size)
    session = Session(made.plan, made.open_engine(), data, **options)
    session.init()
    for weights in session.parameters.values():
        weights *= np.float32(spread)
    return session


def logits_of(session: Session | InferSession, rows: int) -> np.ndarray:
    """The first rows of the logits [rows][vocabulary], where the last call left them."""
    return session.memory.logits(rows)


def open_infer_session(machine: Machine, trained: Session, documents: int = 64) -> InferSession:
    """A session that infers with the weights of another, for whole blocks."""
    kind: Output = "library" if machine.native else "server"
    config = trained.plan.build.model
    made = compile_model(config, machine.target, svl_bits=machine.svl_bits, kind=kind)
    session = InferSession(made.plan, made.open_engine(), config.block_size, documents)
    for name, weights in session.parameters.items():
        weights[:] = trained.parameters[name]
    return session


def sample(machine: Machine, trained: Session, *arguments: Any, **options: Any) -> list[list[int]]:
    """Samples drawn with the weights of a session."""
    with contextlib.closing(open_infer_session(machine, trained)) as session:
        return session.sample(*arguments, **options)
