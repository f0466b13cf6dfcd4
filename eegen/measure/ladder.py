"""Six models on one split of the data, each with one idea more than the one before: from counted pairs to a GPT."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eegen.measure import charts
from eegen.model import Model
from eegen.run.corpus import documents_of
from eegen.run.data import split
from eegen.train.options import TrainOptions
from eegen.train.recipes import load_recipe

HELD_OUT = 0.1
FINAL = "1s"  # the recipe of the last step


@dataclass(frozen=True)
class Step:
    """A model of the ladder: what it adds to the one before, its options and those of its training."""

    name: str
    adds: str
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What became of a step: exact losses a character, over every document of each side; seconds of training."""

    name: str
    adds: str
    params: int
    steps: int
    train: float
    val: float
    seconds: float


@dataclass(frozen=True)
class Ladder:
    """All steps, how many documents they learned from and were judged on, and the seconds of everything."""

    results: list[Result]
    train_documents: int
    val_documents: int
    seed: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def steps() -> list[Step]:
    recipe = load_recipe(FINAL)
    last = {name: value for name, value in recipe.train.items() if name not in ("time", "optimizer")}
    small: dict[str, Any] = {"norm_gains": True, "final_norm": True}
    return [
        Step("bigram by counts", "how often each character follows each", {"model": "bigram-count"}),
        Step(
            "bigram by gradient",
            "the same table, learned",
            {"model": "bigram"},
            {"steps": 3000, "batch": 64, "lr": 0.02},
        ),
        Step(
            "MLP",
            "three characters, embeddings, a hidden layer",
            {"model": "mlp"},
            {"steps": 8000, "batch": 64, "lr": 0.01},
        ),
        Step(
            "GPT, one head, SGD",
            "attention: every character before",
            {"n_heads": 1, **small, "optimizer": "sgd"},
            {"steps": 20000, "lr": 0.1, "momentum": 0.9, "warmup": 0.05},
        ),
        Step(
            "GPT, four heads, Adam",
            "more heads, a step for each weight",
            {"n_heads": 4, **small},
            {"steps": 20000, "lr": 0.01, "warmup": 0.05},
        ),
        Step(
            f"GPT, the recipe {FINAL}",
            "twice the width and layers, relu², Muon",
            {**recipe.model, "optimizer": recipe.train.get("optimizer", "adam")},
            {**last, "steps": 2200},
        ),
    ]


def climb(
    data: Any = None,
    seed: int = 42,
    on_step: Callable[[int, Result], None] = lambda number, result: None,
    **target: Any,
) -> Ladder:
    """Train every step on the same nine tenths of the distinct documents."""
    TrainOptions(seed=seed)
    began = time.perf_counter()
    documents = list(dict.fromkeys(documents_of(data)))
    learned, held_out = split(documents, HELD_OUT, seed)
    assert not set(learned) & set(held_out)
    assert len(learned) + len(held_out) == len(documents)
    results = []
    for step in steps():
        with Model(data=documents, seed=seed, **step.model, **target) as model:
            run = model.train(**step.train, val=HELD_OUT)
            result = Result(
                name=step.name,
                adds=step.adds,
                params=model.params,
                steps=run.steps,
                train=model.evaluate(learned),
                val=model.evaluate(held_out),
                seconds=run.seconds,
            )
        assert run.val_loss is not None
        assert abs(run.val_loss - result.val) < 1e-6, "the steps are judged on documents they were trained on"
        results.append(result)
        on_step(len(results), result)
    return Ladder(results, len(learned), len(held_out), seed, time.perf_counter() - began)


# --- to look at


NAME, ADDS = 23, 48
WIDE = 2 + NAME + ADDS + 41  # columns; in a narrower terminal what a step adds has its own line


def header() -> str:
    return f"  {'':{NAME}}{'what it adds' if wide() else '':{ADDS if wide() else 0}}" + "".join(
        f"{title:>{width}}"
        for title, width in (("parameters", 10), ("training", 10), ("validation", 12), ("seconds", 9))
    )


def row(number: int, r: Result) -> str:
    figures = f"{r.params:>10,}{r.train:>10.4f}{r.val:>12.4f}{r.seconds:>9.2f}"
    above = header() + "\n" if number == 1 else ""
    if wide():
        return f"{above}{number} {r.name:{NAME}}{r.adds:{ADDS}}{figures}"
    return f"{above}{number} {r.name:{NAME}}{figures}\n    {r.adds}"


def wide() -> bool:
    return shutil.get_terminal_size().columns >= WIDE


def summary(ladder: Ladder) -> str:
    trained = sum(r.seconds for r in ladder.results)
    return (
        f"{ladder.train_documents:,} documents to learn from, {ladder.val_documents:,} others to be judged on; "
        f"{trained:.1f} s of training, {ladder.seconds:.1f} s in all"
    )


def chart(results: Sequence[Result], columns: int | None = None) -> str:
    """A line a step: the loss it came down to, ● on the documents held out, the number beside it, ○ on the others."""
    columns = columns or shutil.get_terminal_size().columns
    losses = [loss for r in results for loss in (r.train, r.val)]
    low, high = min(losses), max(losses)
    width = max(20, min(columns, 110) - NAME - 16)
    lines = [f"{'loss a character':{NAME + 2}}{low:<{width - 6}.2f}{high:>6.2f}  ● validation"]

    def at(loss: float) -> int:
        return round((loss - low) / ((high - low) or 1) * (width - 1))

    for number, r in enumerate(results, 1):
        line = ["╌"] * (at(min(r.train, r.val))) + [" "] * width
        line[at(r.train)] = "○"
        line[at(r.val)] = "●"
        lines.append(f"{number} {r.name:{NAME}}{''.join(line[:width])}  {r.val:.4f}")
    lines.append(f"{'':{NAME + 2}}{'○ training':>{width}}")
    return "\n".join(lines)


def plot(ladder: Ladder, path: Path) -> None:
    """The same as a picture."""
    plt = charts.pyplot()
    results = ladder.results
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    rows = range(len(results))
    for y, r in zip(rows, results):
        axes.plot([r.train, r.val], [y, y], color="#c3cad0", linewidth=2, zorder=1)
    axes.scatter([r.train for r in results], rows, 46, "white", edgecolors="#2a78d6", zorder=2, label="training")
    axes.scatter([r.val for r in results], rows, 46, "#2a78d6", zorder=3, label="validation")
    for y, r in zip(rows, results):
        axes.annotate(
            f"{r.val:.3f}", (max(r.train, r.val), y), (9, 0), textcoords="offset points", va="center", fontsize=9,
            color="#20262c",
        )  # fmt: skip
    axes.set_yticks(rows, [f"{r.name}\n{r.params:,} parameters, {r.seconds:.1f} s" for r in results], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.set_xlim(axes.get_xlim()[0], axes.get_xlim()[1] + 0.03)
    axes.set_xlabel("loss a character, nats")
    axes.set_title(
        f"{ladder.train_documents:,} documents to learn from, {ladder.val_documents:,} others to be judged on",
        fontsize=10,
    )
    axes.grid(axis="x", color="#e3e6e9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    try:
        charts.save(figure, path)
    finally:
        plt.close(figure)
