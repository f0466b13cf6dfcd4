"""Recipes: options of a model and of its training that reach the lowest loss in a given time. One TOML file each.

docs/recipes.md says how they were found and what each choice gains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eegen.errors import EegenError
from eegen.language.optimizers import OPTIMIZERS
from eegen.models.config import DEFAULT_MODEL, model_config, option_table
from eegen.options import Given, Group, read_options
from eegen.train.option_table import TRAIN
from eegen.train.options import STEP_OPTIONS, TrainOptions

NAMES = ("1s", "10s", "60s")
LONGEST = {"1s": 3.0, "10s": 25.0}
"""The longest time, in seconds, for which `auto` takes a recipe; beyond, it takes the last one."""

OF_OPTIMIZER = ("lr", "beta1", "beta2", "momentum", "weight_decay")
"""Options whose values were found with the recipe's optimizer and hold for no other."""

MODEL = option_table()
OPTIONS: Group = {
    name: option
    for group in (MODEL, TRAIN)
    for name, option in group.items()
    if name not in ("data", "val", "no_sharing")
}


@dataclass(frozen=True)
class Recipe:
    """Options of a model and of its training, and a sentence about them."""

    name: str
    about: str
    model: Mapping[str, Any]
    train: Mapping[str, Any]

    def with_given(self, model: Given, train: Given) -> tuple[Given, Given]:
        """The options of a run: those that were given, and the recipe's that they do not replace."""
        own = dict(self.train)
        if train.get("optimizer", own.get("optimizer", "adam")) != own.get("optimizer", "adam"):
            own = {name: value for name, value in own.items() if name not in OF_OPTIMIZER}
        if "steps" in train or "time" in train:
            own = {name: value for name, value in own.items() if name not in ("steps", "time")}
        return {**self.model, **model}, {**own, **train}


def load_recipe(name: str) -> Recipe:
    """Read a recipe by its name, or from a TOML file with `about`, [model] and [train]."""
    path = Path(__file__).with_name(f"{name}.toml") if name in NAMES else Path(name)
    if name not in NAMES and not path.exists():
        raise EegenError(f"--recipe {name} does not exist; give auto, none, {', '.join(NAMES)} or a TOML file")
    given, texts = read_options(path, OPTIONS, texts=("about",))
    return Recipe(
        name=path.stem,
        about=texts.get("about", ""),
        model={name: value for name, value in given.items() if name in MODEL},
        train={name: value for name, value in given.items() if name in TRAIN},
    )


def choose_recipe(name: str | None, model: Given, train: Given, from_checkpoint: bool) -> Recipe | None:
    """The recipe of a run, or None for the defaults, as with neither --recipe nor --time.

    `from_checkpoint`: the checkpoint decides the model, and with --resume the training too.
    """
    if name == "none":
        return None
    if name is None:
        defaults = "time" not in train or from_checkpoint or model.get("model", DEFAULT_MODEL) != DEFAULT_MODEL
        return None if defaults else load_recipe(recipe_for(train["time"]))
    if from_checkpoint:
        raise EegenError(f"--recipe {name} begins a model of its own: leave --init and --resume out")
    if name == "auto" and "time" not in train:
        raise EegenError(f"--recipe auto is chosen by --time: give it, or one of {', '.join(NAMES)}")
    recipe = load_recipe(recipe_for(train["time"]) if name == "auto" else name)
    own = recipe.model.get("model", DEFAULT_MODEL)
    if model.get("model", own) != own:
        raise EegenError(f"--recipe {name} is for the model {own}, not for --model {model['model']}")
    return recipe


def recipe_for(seconds: float) -> str:
    """The name of the shipped recipe for a run of so many seconds."""
    return next((name for name, longest in LONGEST.items() if seconds <= longest), NAMES[-1])


def all_options(model: Given, options: TrainOptions) -> dict[str, Given]:
    """The values of all options that a run depends on, defaults included, in the tables `model` and `train`."""
    config = model_config(**model).as_dict()
    unused = set(STEP_OPTIONS) - {"clip", *OPTIMIZERS[options.optimizer].options}
    train = {name: value for name, value in asdict(options).items() if name in OPTIONS and name not in unused}
    return {
        "model": {name: value for name, value in config.items() if name in OPTIONS},
        "train": {name: value for name, value in train.items() if value is not None},
    }


def format_toml(recipe: Recipe | None, tables: dict[str, Given]) -> str:
    """The options of a run as a file that --recipe takes."""
    lines = [f"about = {_toml(recipe.about if recipe else 'The defaults, with no recipe.')}"]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
