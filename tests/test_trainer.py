"""The training loop: what it does with its options, when it stops, what it leaves."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegen
from eegen.errors import EegenError
from eegen.language.optimizers import OPTIMIZERS
from eegen.run import checkpoint
from eegen.train import loop as trainer
from eegen.train.interrupts import interrupts
from eegen.train.loop import Chunk
from eegen.train.options import TrainOptions, train_options
from eegen.train.schedules import SCHEDULES, rates

FIXTURE = Path(__file__).parent / "fixtures" / "microgpt_d16.json"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "CHUNK_STEPS", 97)


def lr_of(steps: int, schedule: str, warmup: float = 0.0, lr: float = 1.0) -> np.ndarray:
    step = np.arange(1, steps + 1, dtype=np.float64)
    return rates(lr, schedule, warmup, step, (step - 1) / steps)


def test_the_linear_schedule_is_the_published_one() -> None:
    wanted = [np.float32(0.01 * (1 - (step - 1) / 1000)) for step in range(1, 1001)]
    assert lr_of(1000, "linear", lr=0.01).tolist() == wanted


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_starts_at_the_rate_and_never_rises(schedule: str) -> None:
    lr = lr_of(500, schedule)
    assert lr[0] == 1
    assert (np.diff(lr) <= 0).all()
    assert lr.min() >= 0


@pytest.mark.parametrize(("schedule", "end"), [("linear", 0), ("cosine", 0), ("warmdown", 0), ("exponential", 0.01)])
def test_a_falling_schedule_ends_low(schedule: str, end: float) -> None:
    assert lr_of(1000, schedule)[-1] == pytest.approx(end, abs=3e-3)


def test_warmup_rises_over_steps_or_over_a_part_of_the_run() -> None:
    assert lr_of(100, "constant", 10)[:11] == pytest.approx([*np.arange(1, 11) / 10, 1])
    assert lr_of(100, "constant", 0.1)[:11] == pytest.approx(np.arange(11) / 10)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("steps", 0, "`steps` is 0; it must be 1 to"),
        ("batch", 0, "`batch` is 0; it must be 1 to 4096"),
        ("batch", 4097, "`batch` is 4097; it must be 1 to 4096"),
        ("lr", 0.0, "`lr` is 0; it must be a number above 0"),
        ("lr", math.nan, "`lr` is nan"),
        ("lr", math.inf, "`lr` is inf"),
        ("seed", 0, "`seed` is 0; it must be 1 to 18446744073709551615"),
        ("order", "backwards", "`order` is 'backwards'; it must be random or sequential"),
        ("schedule", "wavy", "`schedule` is 'wavy'; it must be one of linear"),
        ("warmup", -1.0, "`warmup` is -1"),
        ("time", 0.0, "`time` is 0; it must be a number of seconds above 0"),
        ("until_loss", -1.0, "`until_loss` is -1"),
        ("val", 1.0, "`val` is 1; it must lie between 0 and 1"),
        ("threads", 0, "`threads` is 0; it must be 1 to"),
        ("beta1", 1.0, "`beta1` is 1; it must be from 0 to below 1"),
        ("clip", -1.0, "`clip` is -1; it must be a number from 0 up"),
    ],
)
def test_an_option_out_of_range_is_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(EegenError, match=message):
        TrainOptions(**{option: value})


def test_an_optimizer_has_its_own_rate_and_refuses_options_it_does_not_use() -> None:
    assert train_options("adam").lr == 0.01
    assert train_options("sgd").lr == OPTIMIZERS["sgd"].lr != 0.01
    assert train_options("sgd", lr=0.5, momentum=0.5).momentum == 0.5
    with pytest.raises(EegenError, match="`momentum` means nothing to the optimizer adam"):
        train_options("adam", momentum=0.5)
    with pytest.raises(EegenError, match="unknown optimizer 'sgdm'; they are adam"):
        train_options("sgdm")


def test_without_a_time_there_are_a_thousand_steps() -> None:
    assert TrainOptions().steps == 1000
    assert TrainOptions(until_loss=2.0).steps == 1000
    assert TrainOptions(time=1.0).steps is None


@pytest.mark.usefixtures("small_chunks")
def test_every_step_has_its_loss_and_its_rate_however_it_was_chunked(tmp_path: Path) -> None:
    chunks: list[tuple[int, list[float], list[float]]] = []
    run = eegen.Model().train(
        300, log=tmp_path / "log.jsonl", on_chunk=lambda c: chunks.append((c.first, c.losses.tolist(), c.lr.tolist()))
    )
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 301))
    assert [line["loss"] for line in lines] == run.loss.tolist()
    assert [line["lr"] for line in lines] == lr_of(300, "linear", lr=0.01).tolist()
    assert len(chunks) > 1
    assert all(first == 1 + sum(len(c[1]) for c in chunks[:i]) for i, (first, _, _) in enumerate(chunks))
    assert run.mean_loss == pytest.approx(run.loss[-100:].mean())


def test_the_time_ends_a_run_and_its_schedule() -> None:
    lr: list[float] = []
    run = eegen.Model().train(time=0.15, on_chunk=lambda c: lr.extend(c.lr.tolist()))
    assert run.seconds >= 0.15
    assert run.stopped == "done"
    assert lr[0] == pytest.approx(0.01)
    assert lr[-1] < 0.004


def test_the_steps_end_a_run_before_its_time_does() -> None:
    assert eegen.Model().train(steps=50, time=60).steps == 50


def test_until_loss_stops_at_the_same_step_every_time() -> None:
    runs = [eegen.Model().train(steps=3000, until_loss=2.4) for _ in range(2)]
    assert [run.stopped for run in runs] == ["reached", "reached"]
    assert runs[0].steps == runs[1].steps < 3000
    assert runs[0].mean_loss <= 2.4
    assert runs[0].loss.tobytes() == runs[1].loss.tobytes()


def test_the_published_run_is_reproduced(tmp_path: Path) -> None:
    published = json.loads(FIXTURE.read_text())
    model = eegen.Model(data=published["docs"])
    for name, view in model.parameters.items():
        view[:] = np.array(published["init"][name], np.float32)
    run = model.train(1000, batch=1, order="sequential")
    assert len(run.loss) == 1000
    assert np.abs(run.loss[:100] - published["losses"][:100]).max() < 2e-3


def stopping_after(step: int) -> Any:
    def on_chunk(chunk: Chunk) -> None:
        if chunk.position.done >= step:
            signal.raise_signal(signal.SIGINT)

    return on_chunk


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adam", {}),
        ("adam", {"order": "sequential", "schedule": "cosine", "batch": 3, "val": 0.1}),
        ("muon", {"momentum": 0.8, "clip": 1.0}),
    ],
)
def test_a_resumed_run_ends_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, options: dict[str, Any]
) -> None:
    whole = eegen.Model(seed=7, optimizer=optimizer)
    expected = whole.train(900, save=tmp_path / "whole", log=tmp_path / "whole.jsonl", **options)
    monkeypatch.setattr(trainer, "CHUNK_STEPS", 97)
    first = eegen.Model(seed=7, optimizer=optimizer).train(
        900, save=tmp_path / "part", log=tmp_path / "part.jsonl", on_chunk=stopping_after(300), **options
    )
    assert first.stopped == "interrupted"
    assert 300 <= first.steps < 900
    rest = eegen.load(tmp_path / "part").train(resume=True, save=tmp_path / "part", log=tmp_path / "part.jsonl")
    assert rest.steps == 900
    assert np.concatenate([first.loss, rest.loss]).tobytes() == expected.loss.tobytes()
    assert (rest.mean_loss, rest.val_loss) == (expected.mean_loss, expected.val_loss)
    assert (tmp_path / "part").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "part.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        eegen.Model().train(200, save=tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    eegen.Model().train(20, save=tmp_path / "a")
    with pytest.raises(EegenError, match="it has done its 20 steps; give a larger `steps`"):
        eegen.load(tmp_path / "a").train(resume=True)
    assert eegen.load(tmp_path / "a").train(30, resume=True).steps == 30


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    model = eegen.Model()
    model.train(50, save=tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    with pytest.raises(EegenError, match=r"stopped at step \d+: the loss is nan; .*keeps the last good checkpoint"):
        model.train(100, lr=1e12, save=tmp_path / "good")
    assert (tmp_path / "good").read_bytes() == good
    with pytest.raises(EegenError, match="stopped at step"):
        eegen.Model().train(100, lr=1e12, save=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path) -> None:
    model = eegen.Model()
    model.parameters["tok_emb"][0, 0] = np.inf
    with pytest.raises(EegenError, match="tok_emb holds numbers that are not finite"):
        model.save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("small_chunks")
def test_a_long_run_is_saved_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eegen.train.saving.SAVE_EVERY", 0.0)
    seen: list[int] = []

    def look(chunk: Chunk) -> None:
        if (tmp_path / "a").exists():
            seen.append(int(checkpoint.load(tmp_path / "a").training["done"]))

    eegen.Model().train(2000, save=tmp_path / "a", on_chunk=look)
    assert seen
    assert seen == sorted(seen)
    assert seen[0] < 2000


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    with interrupts() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
