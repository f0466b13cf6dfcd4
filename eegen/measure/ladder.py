"""The ladder: six models on one split of the data, each with one idea more, from bigram counts to a GPT."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from eegen.model import Model
from eegen.run.corpus import documents_of
from eegen.run.data import split
from eegen.train.options import TrainOptions
from eegen.train.recipes import load_recipe

HELD_OUT = 0.1  # fraction of the documents
LAST_RECIPE = "1s"  # of the last model


@dataclass(frozen=True)
class LadderModel:
    """A model of the ladder: the idea it adds to the one before, its options and those of its training."""

    name: str
    adds: str
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A trained model: exact losses a character over every document of each side, and the seconds of training."""

    name: str
    adds: str
    params: int
    steps: int
    train: float
    val: float
    seconds: float


@dataclass(frozen=True)
class Ladder:
    """The results of all models, the numbers of training and held-out documents, and the seconds of everything."""

    results: list[Result]
    train_documents: int
    val_documents: int
    seed: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ladder_models() -> list[LadderModel]:
    recipe = load_recipe(LAST_RECIPE)
    last = {name: value for name, value in recipe.train.items() if name not in ("time", "optimizer")}
    small: dict[str, Any] = {"norm_gains": True, "final_norm": True}
    return [
        LadderModel("bigram by counts", "frequencies of pairs of characters", {"model": "bigram-count"}),
        LadderModel(
            "bigram by gradient",
            "the same table, trained",
            {"model": "bigram"},
            {"steps": 3000, "batch": 64, "lr": 0.02},
        ),
        LadderModel(
            "MLP",
            "three characters of context, embeddings, a hidden layer",
            {"model": "mlp"},
            {"steps": 8000, "batch": 64, "lr": 0.01},
        ),
        LadderModel(
            "GPT, one head, SGD",
            "attention to every earlier character",
            {"n_heads": 1, **small, "optimizer": "sgd"},
            {"steps": 20000, "lr": 0.1, "momentum": 0.9, "warmup": 0.05},
        ),
        LadderModel(
            "GPT, four heads, Adam",
            "more heads, a step size for each weight",
            {"n_heads": 4, **small},
            {"steps": 20000, "lr": 0.01, "warmup": 0.05},
        ),
        LadderModel(
            f"GPT, the recipe {LAST_RECIPE}",
            "twice the width and layers, relu², Muon",
            {**recipe.model, "optimizer": recipe.train.get("optimizer", "adam")},
            {**last, "steps": 2200},
        ),
    ]


def run_ladder(
    data: Any = None,
    seed: int = 42,
    on_result: Callable[[int, Result], None] = lambda number, result: None,
    **target: Any,
) -> Ladder:
    """Train every model on the same nine tenths of the distinct documents; `on_result` gets each result, from 1."""
    TrainOptions(seed=seed)
    began = time.perf_counter()
    documents = list(dict.fromkeys(documents_of(data)))
    training, held_out = split(documents, HELD_OUT, seed)
    assert not set(training) & set(held_out)
    assert len(training) + len(held_out) == len(documents)
    results = []
    for entry in ladder_models():
        with Model(data=documents, seed=seed, **entry.model, **target) as model:
            run = model.train(**entry.train, val=HELD_OUT)
            result = Result(
                name=entry.name,
                adds=entry.adds,
                params=model.params,
                steps=run.steps,
                train=model.evaluate(training),
                val=model.evaluate(held_out),
                seconds=run.seconds,
            )
        assert run.val_loss is not None
        assert abs(run.val_loss - result.val) < 1e-6, "the held-out documents of the training are others"
        results.append(result)
        on_result(len(results), result)
    return Ladder(results, len(training), len(held_out), seed, time.perf_counter() - began)
