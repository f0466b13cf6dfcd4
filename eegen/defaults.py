"""Defaults of a training run that the compiler, the training loop and the command line share."""

from __future__ import annotations

from typing import Any

ORDERS = ("random", "sequential")
TRAIN_DEFAULTS: dict[str, Any] = {"steps": 1000, "batch": 16, "lr": 0.01, "seed": 42, "order": "random"}
