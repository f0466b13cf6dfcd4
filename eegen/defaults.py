"""What every command agrees on: the defaults of a training run, and how an option is spelled."""

from __future__ import annotations

from typing import Any

ORDERS = ("random", "sequential")
TRAIN_DEFAULTS: dict[str, Any] = {"steps": 1000, "batch": 16, "lr": 0.01, "seed": 42, "order": "random"}


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
