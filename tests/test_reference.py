"""A published run of another program: its first losses, step by step, from its own first weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machines import EACH_TARGET, Machine, parameters

from eegen.models.config import ModelConfig
from eegen.run.session import Session

STEPS, SHOWN, LR = 1000, 100, 0.01


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "fixtures" / "microgpt_d16.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("machine", parameters(EACH_TARGET))
def test_losses_are_those_of_the_published_run(
    machine: Machine, published: dict[str, Any], letters: str, open_session: Callable[..., Session]
) -> None:
    session = open_session(machine, ModelConfig(d_model=16), published["docs"], letters, batch=1, random=False)
    weights = {name: np.array(value, np.float32) for name, value in published["init"].items()}
    assert session.parameters.keys() == weights.keys()
    for name, value in session.parameters.items():
        value[:] = weights[name]
    losses = session.train((LR * (1 - np.arange(SHOWN) / STEPS)).astype(np.float32))
    assert np.abs(losses - published["losses"][:SHOWN]).max() < 2e-3
