"""Recipes: which one a run gets, which options override it, and the losses it reaches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eegen
from eegen.commands.shared.values import checked_options
from eegen.errors import EegenError
from eegen.models.config import model_config
from eegen.train.option_table import TRAIN
from eegen.train.recipes import NAMES, Recipe, all_options, choose_recipe, format_toml, load_recipe


def chosen(name: str | None, model: dict[str, Any] | None = None, started: bool = False, **train: Any) -> str | None:
    recipe = choose_recipe(name, model or {}, train, started)
    return recipe.name if recipe else None


def trained_with(recipe: Recipe, model: dict[str, Any] | None = None, **train: Any) -> dict[str, Any]:
    model, train = recipe.with_given(model or {}, train)
    return all_options(model, checked_options(train))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_valid_and_described(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.about.endswith(".")
    assert "\n" not in recipe.about
    model_config(**recipe.model)
    options = checked_options(dict(recipe.train))
    assert options.time == float(name.removesuffix("s"))
    assert options.batch >= 16
    assert options.threads == 1


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(0.01, "1s"), (1.0, "1s"), (3.0, "1s"), (5.0, "10s"), (10.0, "10s"), (60.0, "60s"), (1e6, "60s")],
)
def test_the_time_chooses_the_recipe(seconds: float, name: str) -> None:
    assert chosen(None, time=seconds) == name
    assert chosen("auto", time=seconds) == name


def test_without_time_and_recipe_nothing_changes() -> None:
    assert chosen(None) is None
    assert chosen(None, steps=50, lr=0.1) is None
    assert chosen("none", time=1.0) is None
    assert chosen(None, {"model": "rnn"}, time=1.0) is None
    assert chosen(None, started=True, time=1.0) is None


@pytest.mark.parametrize(
    ("name", "model", "from_checkpoint", "message"),
    [
        ("auto", {}, False, "--recipe auto is chosen by --time: give it, or one of 1s, 10s, 60s"),
        ("2s", {}, False, "--recipe 2s does not exist; give auto, none, 1s, 10s, 60s or a TOML file"),
        ("1s", {"model": "rnn"}, False, "--recipe 1s is for the model gpt, not for --model rnn"),
        ("1s", {}, True, "--recipe 1s begins a model of its own: leave --init and --resume out"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(
    name: str, model: dict[str, Any], from_checkpoint: bool, message: str
) -> None:
    with pytest.raises(EegenError, match=message):
        choose_recipe(name, model, {}, from_checkpoint)


def test_given_options_override_a_recipe() -> None:
    recipe = load_recipe("1s")
    tables = trained_with(recipe, {"d_model": 16}, lr=0.5, batch=3)
    assert tables["model"]["d_model"] == 16
    assert tables["model"]["n_layers"] == recipe.model["n_layers"]
    assert (tables["train"]["lr"], tables["train"]["batch"]) == (0.5, 3)
    assert tables["train"]["schedule"] == recipe.train["schedule"]


def test_steps_or_another_time_replace_the_time_of_a_recipe() -> None:
    recipe = load_recipe("1s")
    assert "time" not in trained_with(recipe, steps=7)["train"]
    assert trained_with(recipe, time=2.0)["train"]["time"] == 2.0


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lion"])
def test_another_optimizer_takes_its_own_rates(optimizer: str) -> None:
    train = trained_with(load_recipe("10s"), optimizer=optimizer)["train"]
    assert train["lr"] == checked_options({"optimizer": optimizer}).lr
    assert train["schedule"] == "linear"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_that_was_printed_can_be_given_back(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    printed = format_toml(recipe, trained_with(recipe))
    (tmp_path / "mine.toml").write_text(printed + "\n", encoding="utf-8")
    again = load_recipe(str(tmp_path / "mine.toml"))
    assert format_toml(again, trained_with(again)) == printed
    assert again.name == "mine"


def test_a_recipe_may_hold_what_a_run_has_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    for line, message in (
        ("data = 'x'", "unknown option 'data'"),
        ("[train]\nlearning = 1", "unknown option 'learning'"),
    ):
        path.write_text(line)
        with pytest.raises(EegenError, match=message):
            load_recipe(str(path))
    path.write_text("[model]\nd_model = 'wide'")
    with pytest.raises(EegenError, match="d_model is 'wide'; it must be a whole number"):
        load_recipe(str(path))
    assert "data" in TRAIN


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "eegen", *words], capture_output=True, text=True, check=False)


def test_show_recipe_prints_what_would_be_trained_and_trains_nothing() -> None:
    shown = run("train", "--time", "1", "--show-recipe", "--json")
    tables = json.loads(shown.stdout)
    assert tables["recipe"] == "1s"
    assert tables["train"]["time"] == 1.0
    plain = json.loads(run("train", "--show-recipe", "--json").stdout)
    assert plain["recipe"] is None
    assert (plain["model"]["d_model"], plain["train"]["steps"]) == (16, 1000)


def trained(name: str, steps: int) -> eegen.Run:
    model, train = load_recipe(name).with_given({}, {"steps": steps, "val": 0.1})
    with eegen.Model(**model, optimizer=train.pop("optimizer", "adam")) as made:
        return made.train(**train)


def test_half_of_the_steps_of_a_second_beat_the_default_model_at_its_best() -> None:
    """1,100 steps; the default needs 20,000 of its own for a loss of 2.1."""
    made = trained("1s", 1100)
    assert made.mean_loss < 2.05
    assert made.val_loss is not None
    assert made.val_loss < 2.09


@pytest.mark.slow
def test_the_steps_of_one_second_reach_the_loss_of_the_recipe() -> None:
    """2,250 steps of 445 µs, as one quiet core of 206 GFLOP/s does them; on the bundled names."""
    made = trained("1s", 2250)
    assert made.mean_loss < 1.98
    assert made.val_loss is not None
    assert made.val_loss < 2.06
