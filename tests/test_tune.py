"""Measured tiles: which are tried, where they are kept, that builds use them and compute the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eegen.commands.tune import print_outcome
from eegen.errors import EegenError
from eegen.measure.tune import tune
from eegen.models.config import ModelConfig, model_config
from eegen.plan.build_config import BuildConfig
from eegen.plan.kernels.matrix import Outer, Product
from eegen.plan.planner import make_plan
from eegen.run.data import build_dataset
from eegen.run.engine import LibraryEngine
from eegen.run.model_builds import compile_model, pick_target
from eegen.run.session import Session
from eegen.targets import TARGETS, best_target
from eegen.toolchain import measured_tiles as tuned
from eegen.toolchain.compiler_search import find_compiler
from eegen.train.options import TrainOptions

TILED = [name for name, target in TARGETS.items() if target.measures_tiles]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("target", TILED)
@pytest.mark.parametrize(("vectors", "k"), [(1, 16), (4, 64), (5, 27), (32, 128)])
def test_candidates_fit_the_registers_and_cover_every_column(target: str, vectors: int, k: int) -> None:
    machine = TARGETS[target]
    for choice in machine.choices(vectors, k):
        assert tuned.fits(machine, "product", choice)
        tile = machine.tile_of(vectors, choice)
        assert sum(panel.count * panel.vectors for panel in tile.panels) == vectors
        assert all(panel.heights[-1] == 1 for panel in tile.panels)
    for choice in machine.outer_choices(k, vectors):
        assert tuned.fits(machine, "outer", choice)
        tile = machine.outer_tile_of(vectors, choice)
        assert sum(panel.count * panel.vectors for panel in tile.panels) == vectors
        assert {height for panel in tile.panels for height in panel.heights} == {tile.rows}


@pytest.mark.parametrize("target", ["avx512", "avx2", "neon"])
def test_the_models_own_tile_is_among_the_candidates(target: str) -> None:
    machine = TARGETS[target]
    own = machine.tile(4, 64)
    assert (own.rows, own.vectors, own.unroll) in machine.choices(4, 64)
    assert machine.tile_of(4, (own.rows, own.vectors, own.unroll)) == own


def test_a_plan_takes_the_tiles_it_is_given() -> None:
    tiles = (("outer 64 x 16", (4, 4, 2)), ("product 16 x 64", (5, 4, 8)))
    plan = make_plan(BuildConfig(ModelConfig(d_model=64), "avx512", tiles=tiles))
    named = {k.stem: k for k in plan.kernels}
    product, outer = named["product_64x256_relu"], named["outer_64x256_update"]
    assert isinstance(product, Product)
    assert isinstance(outer, Outer)
    assert (product.tile.rows, product.tile.vectors, product.tile.unroll) == (5, 4, 8)
    assert (outer.tile.rows, outer.tile.vectors, outer.tile.unroll) == (4, 4, 2)


def test_tiles_are_part_of_what_a_build_is() -> None:
    config = ModelConfig(d_model=64)
    one, two = BuildConfig(config, "avx512"), BuildConfig(config, "avx512", tiles=(("product 16 x 64", (5, 4, 8)),))
    assert one.digest != two.digest
    assert one.name == two.name


def test_later_builds_use_what_is_kept(own_cache: Path) -> None:
    target, compiler = best_target(), find_compiler()
    config = ModelConfig()
    kernel = next(k for k in make_plan(BuildConfig(config, target.name)).kernels if isinstance(k, Product))
    name = f"product {kernel.n // target.lanes} x {kernel.k}"
    tuned.save(target, compiler, {name: (2, 1, 4)})
    after = compile_model(config, target.name)
    assert after.plan.build.tiles == ((name, (2, 1, 4)),)
    found = next(k for k in after.plan.kernels if isinstance(k, Product))
    assert (found.tile.rows, found.tile.vectors, found.tile.unroll) == (2, 1, 4)
    assert compile_model(config, target.name, tiles={}).plan.build.tiles == ()
    assert [path.suffix for path in tuned.forget()] == [".json"]
    assert compile_model(config, target.name).plan.build.tiles == ()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"tiles": 3}', '{"tiles": {"product 4 x 64": [99, 99, 4], "outer 1 x 1": [1, "x", 2]}}']
)
def test_a_damaged_file_is_as_good_as_none(own_cache: Path, text: str) -> None:
    target, compiler = pick_target("avx512"), find_compiler()
    file = tuned.path(target, compiler)
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    assert tuned.load(target, compiler) == {}


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_other_tiles_compute_the_same(rows: int, names: list[str], letters: str) -> None:
    target = best_target()
    if not target.measures_tiles:
        pytest.skip("its tiles are the hardware's")
    config = model_config(d_model=32, vocab_size=len(letters) + 1)
    data = build_dataset(names[:200], letters, 16)
    plan = make_plan(BuildConfig(config, target.name))
    tiles = {}
    for kernel in plan.kernels:
        if isinstance(kernel, Product):
            tiles[f"product {kernel.n // target.lanes} x {kernel.k}"] = (rows, 1, 4)
        if isinstance(kernel, Outer):
            tiles[f"outer {kernel.m} x {kernel.n // target.lanes}"] = (4 * rows, 1, 4)
    losses = []
    for chosen in ({}, tiles):
        made = compile_model(config, target.name, tiles=chosen)
        session = Session(made.plan, LibraryEngine(made.build.path), data)
        session.init()
        losses.append(session.train(np.full(20, 0.003, np.float32)))
        session.engine.close()
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_tuning_ends_in_time_and_keeps_only_what_is_better(
    own_cache: Path, names: list[str], letters: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = tune(model_config(), names, letters, TrainOptions(time=0.1))
    assert outcome.builds >= 1
    assert outcome.shapes
    for shape in outcome.shapes:
        assert shape.us > 0
        assert shape.gain >= 1
        assert shape.count >= 1
    kept = tuned.load(best_target(), find_compiler())
    assert kept == ({s.name: s.best for s in outcome.shapes if s.best != s.default} if outcome.kept else {})
    json.dumps(outcome.as_dict())
    print_outcome(outcome)
    table = capsys.readouterr().out
    assert all(shape.name in table for shape in outcome.shapes)


def test_a_model_without_steps_has_nothing_to_tune(names: list[str], letters: str) -> None:
    with pytest.raises(EegenError, match="nothing to tune"):
        tune(model_config("bigram-count"), names, letters, TrainOptions())
    with pytest.raises(EegenError, match="nothing to tune"):
        tune(model_config("bigram"), names, letters, TrainOptions())
