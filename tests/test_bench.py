"""What `eegen bench` reports: its keys, values that can be, work counted where it is done."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from eegen.commands.bench import print_result
from eegen.errors import EegenError
from eegen.language.graph import OPS
from eegen.language.rows import batch_rows
from eegen.measure.bench import Result, bench
from eegen.measure.kernel_times import call_flops, rows_of
from eegen.measure.peers import MODULES, batches, padded
from eegen.measure.stopwatch import Stopwatch, Window
from eegen.models.config import model_config
from eegen.plan.build_config import BuildConfig
from eegen.plan.planner import make_plan
from eegen.run.data import build_dataset
from eegen.run.header import PHASES
from eegen.run.model_builds import compile_model
from eegen.targets import best_target
from eegen.train.options import TrainOptions, train_options

QUICK = TrainOptions(time=0.05, lr=0.003)


@pytest.fixture(scope="module")
def result(names: list[str], letters: str) -> Result:
    return bench(model_config(), names, letters, QUICK, profile=True)


def test_times_are_those_of_steps(result: Result) -> None:
    assert 1 < result.us_per_step_min <= result.us_per_step < 1e6
    assert result.us_middle[0] <= result.us_per_step <= result.us_middle[1]
    assert list(result.breakdown_us) == list(PHASES)
    assert sum(result.breakdown_us.values()) == pytest.approx(result.us_per_step, rel=0.2)


def test_utilization_is_the_limit_over_the_step(result: Result) -> None:
    # 6 FLOPs for each of 12 d² + 27 d weights and each of the 7.1 positions a name has
    assert result.model_flops_per_step == pytest.approx(6 * (12 * 16**2 + 27 * 16) * 16 * 7.12, rel=0.01)
    assert 0 < result.peak_gflops <= result.peak_gflops_max
    seconds = result.model_flops_per_step / (result.peak_gflops * 1e9)
    assert result.utilization == pytest.approx(seconds / (result.us_per_step * 1e-6))
    assert 0.01 < result.utilization < 2


def test_rows_are_shared(result: Result) -> None:
    rows = result.rows
    assert 100 < rows["positions"] < 130
    assert rows["pair"] < rows["prefix"] < rows["positions"]


def test_without_sharing_every_position_is_a_row(names: list[str], letters: str) -> None:
    alone = bench(model_config(), names, letters, TrainOptions(time=0.02, sharing=False)).rows
    assert alone["pair"] == alone["prefix"] == alone["positions"]


def test_every_kernel_that_is_called_has_a_time(result: Result) -> None:
    names = [k.name for k in result.kernels]
    assert len(set(names)) == len(names)
    assert {"product_16x64_relu", "attention_4x4", "cross_entropy_27"} <= set(names)
    assert sum(k.us for k in result.kernels) < 1.5 * result.us_per_step
    for kernel in result.kernels:
        assert kernel.us > 0
        assert 0 <= kernel.fraction_of_peak < 1.2


def test_json_has_the_promised_keys(result: Result) -> None:
    found = json.loads(json.dumps(result.as_dict()))
    promised = {
        "us_per_step", "us_per_step_min", "peak_gflops", "model_flops_per_step", "utilization", "breakdown_us", "rows",
        "kernels", "against", "build_seconds",
    }  # fmt: skip
    assert promised <= set(found)
    assert {"name", "us", "gflops", "fraction_of_peak"} <= set(found["kernels"][0])
    assert set(found["rows"]) == {"positions", "prefix", "pair"}


def test_the_table_says_what_the_result_says(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result)
    text = capsys.readouterr().out
    assert f"utilization  {result.utilization:.2f}" in text
    assert all(k.name in text for k in result.kernels)


def test_model_flops_are_those_of_the_products_when_no_row_is_shared() -> None:
    """Products forward, back and into gradients: 2 FLOPs a weight and position each; padding and the pass back to the
    embeddings, which is no product, come on top."""
    plan = make_plan(compile_model(model_config(d_model=64)).plan.build)
    assert plan.train
    rows = {"prefix": 100.0, "pair": 100.0}
    calls = [c for c in plan.train.calls if c.kernel.kind in ("product", "outer")]
    counted = sum(call_flops(c, rows, 1.0) for c in calls)
    assert plan.flops(100) <= counted < 1.05 * plan.flops(100)
    assert all(rows_of(c, rows) > 0 for c in plan.train.calls)


@pytest.mark.parametrize("model", [{}, {"n_heads": 2, "d_model": 20, "d_ff": 24}])
def test_a_profile_lists_the_kernels_of_muon_s_update(model: dict[str, int], names: list[str], letters: str) -> None:
    options = train_options("muon", time=0.05, lr=0.003)
    found = bench(model_config(**model), names, letters, options, profile=True)  # type: ignore[arg-type]
    config = model_config(**model, vocab_size=27)  # type: ignore[arg-type]
    plan = make_plan(BuildConfig(config, best_target().name, "muon", programs=("train",)))
    times = {k.name: k for k in found.kernels}
    assert set(times) == {k.name for k in plan.kernels}
    for matrix in plan.matrix_updates:
        assert times[matrix.kernel.name].us > 0
        for kernel in (matrix.kernel.square, matrix.kernel.times):
            assert times[kernel.name].flops > 0
        assert sum(k.flops.of(n) for k, n in matrix.kernel.calls(matrix.tall)) >= matrix.kernel.flops.of(matrix.tall)
    total = sum(k.us for k in found.kernels)
    assert total < 1.5 * found.us_per_step


def test_an_emulated_program_is_measured_like_a_library(names: list[str], letters: str) -> None:
    found = bench(model_config(), names[:300], letters, QUICK, target="scalar", emulate=True, profile=True)
    assert found.emulated
    assert found.peak_gflops > 0
    assert found.windows_left_out == 0
    assert found.us_per_step > 1
    assert {"product_16x64_relu", "cross_entropy_27"} <= {k.name for k in found.kernels}


def test_disturbed_windows_are_left_out() -> None:
    stopwatch = Stopwatch("x", lambda n: None)
    stopwatch.windows = [Window(1.0, True)] * 5 + [Window(9.0, False)] * 5
    assert stopwatch.seconds.max() == 1.0
    stopwatch.windows = [Window(1.0, True)] + [Window(9.0, False)] * 20
    assert len(stopwatch.seconds) == 21


def test_peers_get_the_batches_that_eegen_draws(names: list[str], letters: str) -> None:
    data = build_dataset(names, letters, 16)
    options = TrainOptions(batch=4)
    first = next(batches(data, options, 42))
    x = 42
    for document in first:
        x ^= x << 13 & (1 << 64) - 1
        x ^= x >> 7
        x ^= x << 17 & (1 << 64) - 1
        assert document == x % len(names)


def test_padding_is_ignored() -> None:
    data = build_dataset(["ab", "b"], "ab", 8)
    tokens, targets = padded(data)
    assert tokens.tolist() == [[2, 0, 1], [2, 1, 2]]
    assert targets.tolist() == [[0, 1, 2], [1, 2, -1]]


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_missing_framework_is_refused_in_one_line(framework: str, names: list[str], letters: str) -> None:
    if importlib.util.find_spec(framework):
        pytest.skip(f"{framework} is installed")
    with pytest.raises(EegenError, match=f"{framework} is not installed"):
        bench(model_config(), names, letters, QUICK, against=[framework])


@pytest.mark.parametrize("model", ["gpt", "rnn", "rnn-sparse", "gru", "mlp", "bigram"])
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_peer_trains_the_same_model(framework: str, model: str, names: list[str], letters: str) -> None:
    """`bench` itself compares the first losses and fails where they differ."""
    pytest.importorskip(framework)
    found = bench(model_config(model), names, letters, QUICK, against=[framework])
    assert found.against[framework] > 0


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_an_op_of_a_peer_means_what_the_languages_does(framework: str) -> None:
    """Ops of rows on random operands: of both signs, with fewer positive entries than an op takes."""
    module = pytest.importorskip(framework)
    peer = importlib.import_module(MODULES[framework])
    random, shapes = np.random.default_rng(6), {"bias": (6,), "gain": (6,), "linear": (5, 6), "top_linear": (5, 6)}
    array = module.numpy.asarray if framework == "jax" else module.from_numpy
    for name, op in OPS.items():
        if name not in peer.OPS or not (op.kind == "elementwise" or name in ("rms", "linear", "top_linear")):
            continue
        two = len(signature(op.meaning).parameters) > 2
        operands = [random.normal(size=(3, 6)), *([random.normal(size=shapes.get(name, (3, 6)))] if two else [])]
        attrs = {"top_k": 4} if name == "top_linear" else {}
        operands = [x.astype(np.float32) for x in operands]
        found = np.asarray(peer.OPS[name](None, *map(array, operands), **attrs))
        expected = op.meaning(batch_rows([], 0, 1), *operands, **attrs)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_model_without_steps_is_refused(names: list[str], letters: str) -> None:
    with pytest.raises(EegenError, match="not trained in steps"):
        bench(model_config("bigram-count"), names, letters, QUICK)


def test_roofline(result: Result, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from eegen.measure.charts import plot_roofline

    plot_roofline(result, tmp_path / "roof.svg")
    text = (tmp_path / "roof.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    assert all(f"<!-- {kind} -->" in text for kind in ("product", "outer", "attention", "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["roof.svg"]


def test_command_prints_one_json_object() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eegen", "bench", "--json", "--time", "0.05", "--batch", "3"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["batch"] == 3
    assert np.isfinite(found["utilization"])
