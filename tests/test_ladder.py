"""The ladder: one split for all six models, no document on both sides, and losses that only fall."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eegen import model as api
from eegen.commands.ladder import format_chart, format_row
from eegen.errors import EegenError
from eegen.measure import charts, ladder
from eegen.measure.ladder import Ladder, LadderModel, Result, run_ladder

REACHED = {  # on the bundled names, seed 42
    "bigram by counts": 2.465,
    "bigram by gradient": 2.465,
    "MLP": 2.18,
    "GPT, one head, SGD": 2.14,
    "GPT, four heads, Adam": 2.125,
    "GPT, the recipe 1s": 2.03,
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same models, trained for a few steps each."""

    def cut(model: LadderModel) -> LadderModel:
        return replace(model, train={**model.train, "steps": 20} if model.train else {})

    few = [cut(model) for model in ladder.ladder_models()]
    monkeypatch.setattr(ladder, "ladder_models", lambda: few)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Four hundred names, some of them twice."""
    from eegen.run.data import load_documents

    names = load_documents()[:400]
    return names + names[:50]


@pytest.mark.usefixtures("short")
def test_all_models_are_trained_on_the_same_documents_and_validated_on_others(
    documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[frozenset[str], frozenset[str]]] = []
    evaluate = api.Model.evaluate
    sides: list[frozenset[str]] = []

    def watch(self: Any, data: Any = None) -> float:
        sides.append(frozenset(data))
        if len(sides) == 2:
            seen.append((sides[0], sides[1]))
            assert set(self.session.data.documents) == sides[0]
            assert len(self.session.data.documents) == len(sides[0])
            sides.clear()
        return evaluate(self, data)

    monkeypatch.setattr(api.Model, "evaluate", watch)
    result = run_ladder(documents)
    assert len(seen) == len(result.results) == 6
    assert len(set(seen)) == 1
    training, held_out = seen[0]
    assert not training & held_out
    assert training | held_out == set(documents)
    assert (result.train_documents, result.val_documents) == (len(training), len(held_out))
    assert len(held_out) == round(len(set(documents)) / 10)


@pytest.mark.usefixtures("short")
def test_a_seed_reproduces_a_ladder(documents: list[str]) -> None:
    first, again, other = (run_ladder(documents, seed=seed) for seed in (42, 42, 7))
    losses = [[(r.train, r.val) for r in result.results] for result in (first, again, other)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert json.loads(json.dumps(first.as_dict()))["results"][3]["params"] == 4240


def test_a_seed_out_of_range_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(EegenError, match="`seed` is 0; it must be 1 to"):
        run_ladder(["anna", "bob"], seed=0)


def some() -> Ladder:
    losses = [(2.455, 2.451), (2.1, 2.2), (2.0, 2.0)]
    results = [Result(f"step {i}", "an idea", 10**i, 5, *pair, 0.5) for i, pair in enumerate(losses)]
    return Ladder(results, 90, 10, 42, 3.0)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_chart_fits_the_terminal_and_shows_every_model(columns: int) -> None:
    lines = format_chart(some().results, columns).splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= max(columns, 62)
    rows = lines[1:-1]
    assert all(line.count("●") == 1 for line in rows)
    assert [line.split()[-1] for line in rows] == ["2.4510", "2.2000", "2.0000"]
    places = [line.index("●") for line in rows]
    assert places == sorted(places, reverse=True)


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_table_fits_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = "\n".join(format_row(i, r) for i, r in enumerate(some().results, 1)).splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert sum("an idea" in line for line in lines) == 3


def test_the_plot_names_every_model(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    charts.plot_ladder(some(), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml")
    # matplotlib draws text as paths and keeps it as a comment.
    assert all(f"<!-- step {i} -->" in text for i in range(3))
    assert "<!-- training -->" in text and "<!-- validation -->" in text
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


@pytest.mark.slow
def test_each_model_reaches_its_known_loss() -> None:
    result = run_ladder()
    assert {r.name for r in result.results} == set(REACHED)
    for model in result.results:
        assert model.val < REACHED[model.name], model
    assert [r.params for r in result.results] == [729, 729, 4009, 4240, 4240, 26816]
    neural = [r.val for r in result.results[1:]]
    assert neural == sorted(neural, reverse=True)
