"""From the options given to a command to the values that models, targets and training take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eegen.errors import EegenError
from eegen.options import Given

if TYPE_CHECKING:
    from eegen.models.config import ModelConfig
    from eegen.train.options import TrainOptions


def model_configuration(model: Given, chars: str) -> ModelConfig:
    from eegen.models.config import model_config

    return model_config(**{**model, "vocab_size": len(chars) + 1})


def target_options(given: Given) -> Given:
    """The options of a target as `compile_model` takes them."""
    chosen = dict(given)
    if chosen.pop("sme2", False):
        if chosen.get("target", "sme2") != "sme2":
            raise EegenError(f"--sme2 and --target {chosen['target']} contradict each other")
        chosen["target"] = "sme2"
    return chosen


def training_options(given: Given) -> Given:
    """The training options as `Model.train` takes them."""
    chosen = {name: value for name, value in given.items() if name not in ("data", "seed", "optimizer", "no_sharing")}
    return {**chosen, "sharing": False} if "no_sharing" in given else chosen


def checked_options(given: Given) -> TrainOptions:
    """All training options, each checked."""
    from eegen.train.options import train_options

    return train_options(**{"optimizer": "adam", **fixed_options(given), **training_options(given)})


def fixed_options(given: Given) -> Given:
    """The training options that are given when a model is made."""
    return {name: given[name] for name in ("seed", "optimizer") if name in given}
