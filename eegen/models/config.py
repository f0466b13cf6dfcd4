"""What a model declares of itself, the models there are, and the configuration of one model, checked."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegen.errors import EegenError
from eegen.language.graph import Graph, Value
from eegen.options import Group, Option

DEFAULT_MODEL = "gpt"

# Options that every model has: the data decide the first.
SHARED = (
    Option("vocab_size", int, 27, range=(2, 4097), short="v", help="Characters, and the boundary token."),
    Option("block_size", int, 16, range=(1, 256), short="b", help="Positions of a document, at most."),
)


@dataclass(frozen=True)
class ModelSpec:
    """A model: its graph up to the logits, and its options besides those in `SHARED`.

    `check` refuses options that do not go together. `fit` computes the parameters of a model that is not trained
    from the tokens, the target tokens and the vocabulary size of a data set.
    """

    name: str
    build: Callable[[Graph, ModelConfig], Value]
    options: tuple[Option, ...] = ()
    check: Callable[[ModelConfig], None] = lambda config: None
    fit: Callable[[NDArray[np.int32], NDArray[np.int32], int], dict[str, NDArray[np.float64]]] | None = None

    @cached_property
    def table(self) -> Group:
        """All options by name, in the order of configurations and checkpoints."""
        return {option.name: option for option in (*SHARED, *self.options)}


@lru_cache(maxsize=1)
def find_models() -> dict[str, ModelSpec]:
    """The models by name: the `MODEL` of each file in this folder, the default model first."""
    names = (module.name for module in pkgutil.iter_modules(importlib.import_module("eegen.models").__path__))
    modules = [importlib.import_module(f"eegen.models.{name}") for name in names]
    specs: list[ModelSpec] = [module.MODEL for module in modules if hasattr(module, "MODEL")]
    return {spec.name: spec for spec in sorted(specs, key=lambda spec: (spec.name != DEFAULT_MODEL, spec.name))}


def find_model(name: str) -> ModelSpec:
    models = find_models()
    if name not in models:
        raise EegenError(f"unknown model '{name}'; the models are {', '.join(models)}")
    return models[name]


@dataclass(frozen=True, init=False, repr=False)
class ModelConfig:
    """One model and the values of its options, each also an attribute: `config.d_model`."""

    model: str
    values: tuple[tuple[str, Any], ...]

    def __init__(self, model: str = DEFAULT_MODEL, **given: Any) -> None:
        spec = find_model(model)
        for name in given:
            if name not in spec.table:
                known = any(name in other.table for other in find_models().values())
                raise EegenError(
                    f"`{name}` means nothing to the model '{model}'" if known else f"unknown model option '{name}'"
                )
        values = {name: option.check(given.get(name, option.default)) for name, option in spec.table.items()}
        for name, option in spec.table.items():
            if option.derive and values[name] == option.default:
                values[name] = option.derive(values)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "values", tuple(values.items()))
        spec.check(self)

    def __getattr__(self, name: str) -> Any:
        if name != "values":
            for own, value in self.values:
                if own == name:
                    return value
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"ModelConfig({', '.join(f'{name}={value!r}' for name, value in self.as_dict().items())})"

    @property
    def spec(self) -> ModelSpec:
        return find_model(self.model)

    @property
    def options(self) -> dict[str, Any]:
        """The values of the options, by name."""
        return dict(self.values)

    @property
    def changed(self) -> dict[str, Any]:
        """The options whose values are not what they would be if they were not given."""
        values = self.options
        return {
            name: values[name]
            for name, option in self.spec.table.items()
            if values[name] != (option.derive(values) if option.derive else option.default)
        }

    @property
    def title(self) -> str:
        """A stable short name: the model, its width, and the options that differ from their defaults."""
        table, changed = self.spec.table, self.changed
        shown = [name for name in table if table[name].always]
        shown += [name for name in changed if name not in shown]
        return "-".join([self.model, *(_in_title(table[name], getattr(self, name)) for name in shown)])

    def as_dict(self) -> dict[str, Any]:
        """The configuration as JSON output and checkpoints hold it."""
        return {"model": self.model, **self.options}


def _in_title(option: Option, value: Any) -> str:
    """`h8` for a number; a flag is its short name alone, a choice its value alone."""
    return option.short if value is True else f"{option.short}{value}"


def model_config(model: str = DEFAULT_MODEL, **options: Any) -> ModelConfig:
    """Return a checked configuration from options of which None stands for not given."""
    return ModelConfig(model, **{name: value for name, value in options.items() if value is not None})


# --- the options of all models together, as the command line and recipes have them


@lru_cache(maxsize=1)
def option_table() -> Group:
    """Every option of any model once, with help that says which models have it; vocab_size is the data's."""
    models = find_models()
    found: Group = {
        "model": Option("model", str, help=f"Which model: {', '.join(models)}.", default_text=DEFAULT_MODEL)
    }
    for spec in models.values():
        for option in spec.table.values():
            if option.name != "vocab_size" and option.name not in found:
                found[option.name] = _described(option, models)
    return found


def _described(option: Option, models: Mapping[str, ModelSpec]) -> Option:
    owners = {name: spec.table[option.name] for name, spec in models.items() if option.name in spec.table}
    first = next(iter(owners.values()))
    text = first.help if DEFAULT_MODEL in owners else f"{first.help.rstrip('.')} ({', '.join(owners)})."
    others = [f"{own.default} for {name}" for name, own in owners.items() if own.default != first.default]
    default = "; ".join([first.default_text or str(first.default), *others])
    return replace(first, help=text, default_text=default if first.type is not bool else "")
