"""Recipes: the model and the training that give the best names in the seconds there are. One TOML file each.

How they were found and what each choice bought is in docs/recipes.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eegen.errors import EegenError
from eegen.language.optimizers import OPTIMIZERS
from eegen.models.config import model_config, option_table
from eegen.options import Given, Group, read_options
from eegen.train.loop import STEP_OPTIONS, TrainOptions
from eegen.train.option_table import TRAIN

NAMES = ("1s", "10s", "60s")
UP_TO = {"1s": 3.0, "10s": 25.0}
"""The longest --time for which `auto` takes a recipe; beyond, the last one."""

RATES = ("lr", "beta1", "beta2", "momentum", "weight_decay")
"""Numbers that are worth something with the optimizer they were found with alone."""

MODEL = option_table()
OPTIONS: Group = {
    name: option
    for group in (MODEL, TRAIN)
    for name, option in group.items()
    if name not in ("data", "val", "no_sharing")
}


@dataclass(frozen=True)
class Recipe:
    """Options of a model and of its training, with what they are for."""

    name: str
    about: str
    model: Mapping[str, Any]
    train: Mapping[str, Any]

    def with_flags(self, model: Given, train: Given) -> tuple[Given, Given]:
        """The options of a run: those given first, then the recipe's where they still make sense."""
        mine = dict(self.train)
        if train.get("optimizer", mine.get("optimizer", "adam")) != mine.get("optimizer", "adam"):
            mine = {name: value for name, value in mine.items() if name not in RATES}
        if "steps" in train or "time" in train:
            mine = {name: value for name, value in mine.items() if name not in ("steps", "time")}
        return {**self.model, **model}, {**mine, **train}


def load_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a TOML file: `about`, [model] and [train]."""
    path = Path(__file__).with_name(f"{name}.toml") if name in NAMES else Path(name)
    if name not in NAMES and not path.exists():
        raise EegenError(f"--recipe {name} does not exist; give auto, none, {', '.join(NAMES)} or a TOML file")
    given, about = read_options(path, OPTIONS, texts=("about",))
    return Recipe(
        name=path.stem,
        about=about.get("about", ""),
        model={name: value for name, value in given.items() if name in MODEL},
        train={name: value for name, value in given.items() if name in TRAIN},
    )


def choose(name: str | None, model: Given, train: Given, started: bool) -> Recipe | None:
    """The recipe of a run, or None: with neither --recipe nor --time, the plain defaults.

    `started` says that the run begins from a checkpoint, which has its model, and with --resume its training too.
    """
    if name == "none":
        return None
    if name is None:
        plain = "time" not in train or started or model.get("model", "gpt") != "gpt"
        return None if plain else load_recipe(fitting(train["time"]))
    if started:
        raise EegenError(f"--recipe {name} begins a model of its own: leave --init and --resume out")
    if name == "auto" and "time" not in train:
        raise EegenError(f"--recipe auto is chosen by --time: give it, or one of {', '.join(NAMES)}")
    recipe = load_recipe(fitting(train["time"]) if name == "auto" else name)
    own = recipe.model.get("model", "gpt")
    if model.get("model", own) != own:
        raise EegenError(f"--recipe {name} is for the model {own}, not for --model {model['model']}")
    return recipe


def fitting(seconds: float) -> str:
    """The shipped recipe for so much time."""
    return next((name for name, most in UP_TO.items() if seconds <= most), NAMES[-1])


def settings(model: Given, options: TrainOptions) -> dict[str, Given]:
    """All that a run depends on besides its data: the defaults too, but nothing that the optimizer does not heed."""
    config = model_config(**model).as_dict()
    idle = set(STEP_OPTIONS) - {"clip", *OPTIMIZERS[options.optimizer].options}
    train = {name: value for name, value in asdict(options).items() if name in OPTIONS and name not in idle}
    return {
        "model": {name: value for name, value in config.items() if name in OPTIONS},
        "train": {name: value for name, value in train.items() if value is not None},
    }


def as_toml(recipe: Recipe | None, tables: dict[str, Given]) -> str:
    """The options of a run as a file that --recipe takes."""
    lines = [f"about = {_toml(recipe.about if recipe else 'The defaults, with no recipe.')}"]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


__all__ = ["NAMES", "Recipe", "as_toml", "choose", "load_recipe", "settings"]
