"""The model as a notebook uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegen
from eegen.errors import EegenError
from eegen.language.oracle import Oracle
from eegen.language.rows import batch_rows
from eegen.models import build_graph
from eegen.run.data import split
from eegen.train.options import options_of_call

NAMES = ["anna", "bob", "carla", "dan", "eve", "anna", "frida"]


def test_importing_eegen_is_cheap() -> None:
    program = "import sys, eegen; sys.exit('numpy' in sys.modules or 'typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_weights_have_the_published_names_and_shapes() -> None:
    shapes = {name: view.shape for name, view in eegen.Model(data=NAMES, n_layers=2).parameters.items()}
    layer = {"wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 16), "w1": (64, 16), "w2": (16, 64)}
    wanted = {"tok_emb": (13, 16), "pos_emb": (16, 16), "lm_head": (13, 16)}
    wanted |= {f"layers.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    assert shapes == wanted


@pytest.mark.parametrize("numbers", [[], [7], [-1], [0] * 17])
def test_a_gradient_is_of_some_documents_that_exist(numbers: list[int]) -> None:
    with pytest.raises(EegenError, match="takes 1 to 16 numbers from 0 to 6"):
        eegen.Model(data=NAMES).loss_and_gradients(numbers)


def test_parameters_are_views_of_what_training_writes() -> None:
    model = eegen.Model(data=NAMES)
    view = model.parameters["layers.0.wq"]
    before = view.copy()
    model.train(5)
    assert (view != before).any()
    view[:] = 0
    assert not model.parameters["layers.0.wq"].any()
    assert np.shares_memory(view, model.parameters["layers.0.wq"])


def test_the_loss_is_an_array_with_a_number_for_each_step() -> None:
    run = eegen.Model(data=NAMES).train(steps=200, lr=0.01)
    assert run.loss.shape == (200,)
    assert run.loss.dtype == np.float32
    assert run.loss[-1] < run.loss[0]
    assert set(run.breakdown_us) == {"batch", "forward", "backward", "update"}
    assert sum(run.breakdown_us.values()) == pytest.approx(run.us_per_step)


def test_a_second_call_goes_on_where_the_first_ended() -> None:
    model = eegen.Model(data=NAMES)
    model.train(100)
    assert model.train(100).loss[0] < 1.5
    assert model.session.counters.step == 200


@pytest.mark.parametrize("options", [{"batch": 64}, {"sharing": False}, {"val": 0.3}, {"threads": 2}])
def test_a_call_that_needs_other_memory_keeps_weights_and_optimizer(options: dict[str, Any]) -> None:
    model = eegen.Model(data=NAMES)
    model.train(30)
    weights = {name: view.copy() for name, view in model.parameters.items()}
    moments = {name: view.copy() for name, view in model.session.optimizer.items()}
    model.sessions.open(options_of_call(model.options, options, "gpt", resume=False))
    assert all((view == weights[name]).all() for name, view in model.parameters.items())
    assert all((view == moments[name]).all() for name, view in model.session.optimizer.items())
    assert model.session.counters.step == 30
    model.train(5, **options)
    assert model.session.counters.step == 35


def test_gradients_are_those_of_the_oracle() -> None:
    model = eegen.Model(data=NAMES)
    loss = model.loss_and_gradients([0, 3, 5])
    rows = batch_rows([[model.chars.index(c) for c in NAMES[i]] for i in (0, 3, 5)], len(model.chars), 16)
    parameters = {name: np.array(view, np.float64) for name, view in model.parameters.items()}
    expected, gradients = Oracle(*build_graph(model.config)).loss_and_gradients(rows, parameters)
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, gradient in model.gradients.items():
        assert np.abs(gradient - gradients[name]).max() <= 2e-6 * max(1.0, np.abs(gradients[name]).max())


def test_evaluate_is_the_oracle_s_loss_over_every_document() -> None:
    model = eegen.Model(data=NAMES)
    model.train(20)
    rows = batch_rows([[model.chars.index(c) for c in name] for name in NAMES], len(model.chars), 16)
    parameters = {name: np.array(view, np.float64) for name, view in model.parameters.items()}
    assert model.evaluate() == pytest.approx(
        Oracle(*build_graph(model.config)).loss_and_gradients(rows, parameters)[0], rel=1e-5
    )


def test_the_validation_loss_is_that_of_the_documents_held_out(names: list[str]) -> None:
    model = eegen.Model(seed=3)
    run = model.train(50, val=0.1)
    _, held_out = split(names, 0.1, 3)
    assert run.val_loss == pytest.approx(model.evaluate(held_out), rel=1e-6)


def test_save_and_load_keep_everything(tmp_path: Path) -> None:
    model = eegen.Model(data=NAMES, d_model=20, n_heads=5, activation="relu2")
    model.train(100)
    path = model.save(tmp_path / "model.safetensors")
    other = eegen.load(path, data=NAMES)
    assert other.config == model.config
    assert other.chars == model.chars
    assert all((view == model.parameters[name]).all() for name, view in other.parameters.items())
    assert other.sample(5) == model.sample(5)
    assert other.evaluate() == model.evaluate()
    assert other.train(10).loss.tolist() == model.train(10).loss.tolist()


def test_samples_begin_with_the_prefix_and_depend_on_the_seed_alone() -> None:
    model = eegen.Model(data=NAMES)
    model.train(300)
    twenty = model.sample(20, temperature=1.0, seed=5)
    assert model.sample(3, temperature=1.0, seed=5) == twenty[:3]
    assert model.sample(20, temperature=1.0, seed=6) != twenty
    assert all(name.startswith("an") for name in model.sample(5, prefix="an"))
    assert set(model.sample(30)) & set(NAMES)


def test_sampling_goes_on_past_the_longest_document() -> None:
    """The memory of the lists of ancestors is that of the block, not that of the data."""
    model = eegen.Model(data=["a", "b"])
    model.parameters["lm_head"][:] = 0
    samples = model.sample(2000, temperature=1.0)
    assert max(map(len, samples)) > 10
    assert all(set(sample) <= set("ab") for sample in samples)


def test_a_checkpoint_can_be_looked_at_without_its_data(tmp_path: Path) -> None:
    model = eegen.Model(data=NAMES)
    model.train(20)
    other = eegen.load(model.save(tmp_path / "a"))
    assert other.sample(3) == model.sample(3)
    assert (other.parameters["lm_head"] == model.parameters["lm_head"]).all()
    with pytest.raises(EegenError, match="trained on documents of no file: give them as data"):
        other.train(1)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    path = eegen.Model(data=tmp_path / "names.txt").save(tmp_path / "b")
    assert eegen.load(path).documents == NAMES
    (tmp_path / "names.txt").unlink()
    assert eegen.load(path).sample(1)
    with pytest.raises(EegenError, match="names.txt does not exist"):
        eegen.load(path).evaluate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "`n` is 0"),
        ({"temperature": 0.0}, "`temperature` is 0"),
        ({"temperature": -1.0}, "`temperature` is -1"),
        ({"seed": 0}, "`seed` is 0"),
        ({"prefix": "an9"}, "'9', which the model does not know"),
        ({"prefix": "a" * 16}, "the prefix has 16 characters; the model's block is 16"),
    ],
)
def test_sampling_says_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EegenError, match=message):
        eegen.Model(data=NAMES).sample(**options)


def test_an_extreme_temperature_takes_the_likeliest() -> None:
    model = eegen.Model(data=NAMES)
    model.train(200)
    assert len(set(model.sample(10, temperature=1e-300))) == 1


def test_one_document_is_enough() -> None:
    model = eegen.Model(data=["anna"])
    assert model.train(200).mean_loss < 0.5
    assert model.sample(2) == ["anna", "anna"]


def test_any_characters_will_do() -> None:
    model = eegen.Model(data=["Ü日", "日Ü"])
    assert model.chars == "Ü日"
    model.train(300)
    assert set(model.sample(5, prefix="日")) == {"日Ü"}


def test_an_unknown_training_option_is_named() -> None:
    with pytest.raises(TypeError, match="train\\(\\) has no option 'stepz'"):
        eegen.Model(data=NAMES).train(stepz=3)


def test_a_checkpoint_of_another_vocabulary_refuses_the_data(tmp_path: Path) -> None:
    eegen.Model(data=NAMES).save(tmp_path / "a")
    with pytest.raises(EegenError, match="document 1 \\('zoe'\\) has the character 'z'"):
        eegen.load(tmp_path / "a", data=["zoe"]).train(1)
