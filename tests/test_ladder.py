"""The ladder: one split for all six, no document on both sides, every step an honest one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eegen import model as api
from eegen.errors import EegenError
from eegen.measure import ladder
from eegen.measure.ladder import Ladder, Result, Step

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
    """The same models, a few steps each."""

    def cut(step: Step) -> Step:
        return replace(step, train={**step.train, "steps": 20} if step.train else {})

    few = [cut(step) for step in ladder.steps()]
    monkeypatch.setattr(ladder, "steps", lambda: few)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Four hundred names, some of them twice."""
    from eegen.run.data import load_documents

    names = load_documents()[:400]
    return names + names[:50]


@pytest.mark.usefixtures("short")
def test_all_steps_learn_from_the_same_documents_and_are_judged_on_others(
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
    climbed = ladder.climb(documents)
    assert len(seen) == len(climbed.results) == 6
    assert len(set(seen)) == 1
    learned, held_out = seen[0]
    assert not learned & held_out
    assert learned | held_out == set(documents)
    assert (climbed.train_documents, climbed.val_documents) == (len(learned), len(held_out))
    assert len(held_out) == round(len(set(documents)) / 10)


@pytest.mark.usefixtures("short")
def test_a_seed_names_a_ladder(documents: list[str]) -> None:
    first, again, other = (ladder.climb(documents, seed=seed) for seed in (42, 42, 7))
    losses = [[(r.train, r.val) for r in climbed.results] for climbed in (first, again, other)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert json.loads(json.dumps(first.as_dict()))["results"][3]["params"] == 4240


def test_a_seed_out_of_range_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(EegenError, match="`seed` is 0; it must be 1 to"):
        ladder.climb(["anna", "bob"], seed=0)


def some() -> Ladder:
    losses = [(2.455, 2.451), (2.1, 2.2), (2.0, 2.0)]
    results = [Result(f"step {i}", "an idea", 10**i, 5, *pair, 0.5) for i, pair in enumerate(losses)]
    return Ladder(results, 90, 10, 42, 3.0)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_chart_fits_the_terminal_and_shows_every_step(columns: int) -> None:
    lines = ladder.chart(some().results, columns).splitlines()
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
    lines = "\n".join(ladder.row(i, r) for i, r in enumerate(some().results, 1)).splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert sum("an idea" in line for line in lines) == 3


def test_the_picture_names_every_step(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ladder.plot(some(), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


@pytest.mark.slow
def test_each_idea_reaches_what_it_is_known_to_reach() -> None:
    climbed = ladder.climb()
    assert {r.name for r in climbed.results} == set(REACHED)
    for result in climbed.results:
        assert result.val < REACHED[result.name], result
    assert [r.params for r in climbed.results] == [729, 729, 4009, 4240, 4240, 26816]
    neural = [r.val for r in climbed.results[1:]]
    assert neural == sorted(neural, reverse=True)
