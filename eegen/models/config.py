"""Model and build options: what is valid, what each is called, and the stable name of a build."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from eegen.defaults import flag
from eegen.errors import EegenError

ACTIVATIONS = ("relu", "relu2")

# option -> (lowest, highest) of every size a user can set
LIMITS: dict[str, tuple[int, int]] = {
    "d_model": (1, 1024),
    "n_heads": (1, 1024),
    "n_layers": (1, 16),
    "d_ff": (1, 8192),
    "block_size": (1, 256),
    "vocab_size": (2, 4097),  # characters and the boundary
    "d_state": (1, 1024),
    "top_k": (1, 1024),
    "context": (1, 16),
    "d_embed": (1, 1024),
    "d_hidden": (1, 4096),
}

# The options each model has beyond vocab_size and block_size; the rest are refused for it.
MODEL_OPTIONS: dict[str, tuple[str, ...]] = {
    "gpt": ("d_model", "n_heads", "n_layers", "d_ff", "activation", "norm_gains", "final_norm", "tie_embeddings"),
    "rnn": ("d_model", "d_state"),
    "rnn-sparse": ("d_model", "d_state", "top_k"),
    "mlp": ("context", "d_embed", "d_hidden"),
    "bigram": (),
    "bigram-count": (),
}


@dataclass(frozen=True)
class ModelConfig:
    """One model of the family. `d_ff=0` stands for four times d_model."""

    model: str = "gpt"
    d_model: int = 16
    n_heads: int = 4
    n_layers: int = 1
    d_ff: int = 0
    block_size: int = 16
    activation: str = "relu"
    vocab_size: int = 27
    norm_gains: bool = False
    final_norm: bool = False
    tie_embeddings: bool = False
    d_state: int = 32
    top_k: int = 16
    context: int = 3
    d_embed: int = 10
    d_hidden: int = 64

    def __post_init__(self) -> None:
        if self.model not in MODEL_OPTIONS:
            raise EegenError(f"unknown model '{self.model}'; the models are {', '.join(MODEL_OPTIONS)}")
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        for name in ("vocab_size", "block_size", *MODEL_OPTIONS[self.model]):
            value, limit = getattr(self, name), LIMITS.get(name)
            if limit and not limit[0] <= value <= limit[1]:
                raise EegenError(f"{flag(name)} is {value}; it must be {limit[0]} to {limit[1]}")
        if self.activation not in ACTIVATIONS:
            raise EegenError(f"--activation is '{self.activation}'; it must be one of {', '.join(ACTIVATIONS)}")
        if self.model == "gpt" and self.d_model % self.n_heads:
            divisors = [n for n in range(1, self.d_model + 1) if self.d_model % n == 0]
            raise EegenError(
                f"--d-model {self.d_model} is not divisible by --n-heads {self.n_heads}; "
                f"heads for it: {', '.join(map(str, divisors))}"
            )
        if self.model == "rnn-sparse" and self.top_k > self.d_state:
            raise EegenError(f"--top-k {self.top_k} is more than --d-state {self.d_state}")

    @property
    def options(self) -> dict[str, Any]:
        """The options that this model has, by name."""
        return {name: getattr(self, name) for name in ("vocab_size", "block_size", *MODEL_OPTIONS[self.model])}

    @property
    def title(self) -> str:
        """A stable short name: the model, its width, and whatever differs from the defaults."""
        default = default_config(self.model)
        parts = [self.model]
        if "d_model" in self.options:
            parts.append(f"d{self.d_model}")
        for name, value in self.options.items():
            standard = 4 * self.d_model if name == "d_ff" else getattr(default, name)
            if name != "d_model" and value != standard:
                short = SHORT[name]
                parts.append(short if value is True else f"{short}{value}" if not isinstance(value, str) else value)
        return "-".join(parts)

    def as_dict(self) -> dict[str, Any]:
        return {"model": self.model, **self.options}


SHORT = {
    "n_heads": "h",
    "n_layers": "l",
    "d_ff": "ff",
    "block_size": "b",
    "vocab_size": "v",
    "activation": "",
    "norm_gains": "gains",
    "final_norm": "finalnorm",
    "tie_embeddings": "tied",
    "d_state": "s",
    "top_k": "k",
    "context": "c",
    "d_embed": "e",
    "d_hidden": "n",
}

# Where a model's usual size is not the GPT's.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {"rnn": {"d_model": 16, "d_state": 32}}


def default_config(model: str) -> ModelConfig:
    return ModelConfig(model=model, **MODEL_DEFAULTS.get(model, {}))


def model_config(model: str = "gpt", **options: Any) -> ModelConfig:
    """A checked configuration from the options a user gave (None = not given)."""
    given = {name: value for name, value in options.items() if value is not None}
    if model not in MODEL_OPTIONS:
        raise EegenError(f"unknown model '{model}'; the models are {', '.join(MODEL_OPTIONS)}")
    known = {field.name for field in fields(ModelConfig)}
    for name in given:
        if name not in known:
            raise EegenError(f"unknown model option '{name}'")
        if name not in ("vocab_size", "block_size", *MODEL_OPTIONS[model]):
            raise EegenError(f"{flag(name)} means nothing to the model '{model}'")
    return ModelConfig(model=model, **{**MODEL_DEFAULTS.get(model, {}), **given})
