"""Checkpoints: what is saved comes back, and what is broken is refused in one line."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from eegen.errors import EegenError, EegenFailure
from eegen.run.checkpoint import Checkpoint, check_destination, check_shapes, load, replace_file, save

TENSORS = {"tok_emb": np.arange(12, dtype=np.float32).reshape(4, 3), "layers.0.wq": np.full((3, 3), 0.1, np.float32)}
OPTIMIZER = {f"{moment}.{name}": np.full_like(array, 0.5) for moment in "mv" for name, array in TENSORS.items()}
METADATA: dict[str, Any] = {
    "config": {"d_model": 3, "activation": "relu"},
    "vocabulary": 'aë"字\n',
    "training": {"step": 7, "lr": 0.01, "rng": 2**64 - 1, "order": "random"},
}
SHAPES = {name: array.shape for name, array in TENSORS.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    saved = tmp_path / "model.safetensors"
    save(saved, TENSORS, OPTIMIZER, METADATA)
    return saved


def write_safetensors(path: Path, metadata: dict[str, str], tensors: dict[str, Any] = TENSORS) -> Path:
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    return path


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size`: write fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def assert_same(loaded: dict[str, np.ndarray[Any, Any]], saved: dict[str, np.ndarray[Any, Any]]) -> None:
    assert loaded.keys() == saved.keys()
    for name, array in saved.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == np.float32


def test_what_is_saved_comes_back(path: Path) -> None:
    loaded = load(path)
    assert_same(loaded.tensors, TENSORS)
    assert_same(loaded.optimizer, OPTIMIZER)
    assert loaded.config == METADATA["config"]
    assert loaded.vocabulary == METADATA["vocabulary"]
    assert loaded.training == METADATA["training"]


def test_any_safetensors_reader_finds_the_names(path: Path) -> None:
    assert set(safetensors.numpy.load_file(path)) == set(TENSORS) | {f"optimizer.{name}" for name in OPTIMIZER}
    with safetensors.safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert {key: json.loads(value) for key, value in metadata.items()} == {"eegen": 1, **METADATA}


def test_padded_and_transposed_views_are_saved_by_value(tmp_path: Path) -> None:
    padded = np.arange(32, dtype=np.float32).reshape(4, 8)[:, :3]
    save(tmp_path / "model", {"padded": padded, "transposed": padded.T}, {}, METADATA)
    assert_same(load(tmp_path / "model").tensors, {"padded": padded, "transposed": padded.T})


def test_the_same_state_gives_the_same_bytes(path: Path) -> None:
    first = path.read_bytes()
    for _ in range(10):
        save(path, TENSORS, OPTIMIZER, METADATA)
        assert path.read_bytes() == first


def test_data_in_the_file_starts_on_eight_bytes(path: Path) -> None:
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_saving_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.safetensors"
    save(path, TENSORS, OPTIMIZER, METADATA)
    save(path, TENSORS, {}, METADATA)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert load(path).optimizer == {}


def test_saving_through_a_link_keeps_the_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(path)
    save(link, TENSORS, {}, METADATA)
    assert link.is_symlink()
    assert load(path).optimizer == {}


@pytest.mark.parametrize("size", [0, 100, 600])
def test_a_full_disk_leaves_the_old_checkpoint(path: Path, size: int) -> None:
    before = path.read_bytes()
    with disk_full_after(size), pytest.raises(EegenFailure, match=r"cannot write .*model\.safetensors") as failure:
        save(path, {name: array + 1 for name, array in TENSORS.items()}, OPTIMIZER, METADATA)
    assert failure.value.exit_code == 1
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupt_while_saving_leaves_the_old_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, TENSORS, {}, METADATA)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_right_is_a_failure_not_a_mistake(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(old: Path, new: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(EegenFailure, match="Permission denied; nothing was changed"):
        save(path, TENSORS, {}, METADATA)
    assert list(path.parent.iterdir()) == [path]


def test_a_destination_that_cannot_be_written_is_known_before_training(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    check_destination(path)
    check_destination(tmp_path / "other")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(EegenFailure, match="Not a directory|File exists"):
        check_destination(path / "below")
    with pytest.raises(EegenError, match="it is a directory"):
        check_destination(tmp_path)
    with pytest.raises(EegenError, match="not a regular file"):
        check_destination(Path("/dev/null"))


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", b"old")
    with (tmp_path / "file").open("rb") as reader:
        replace_file(tmp_path / "file", b"new")
        assert reader.read() == b"old"
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("cut", [0.0, 0.001, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(path: Path, cut: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    refused(path, "truncated or damaged" if cut > 0.005 else "is not a safetensors file")


def test_a_lengthened_checkpoint_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    refused(path, "truncated or damaged")


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "names.txt"
    text.write_text("emma\nolivia\nava\n")
    refused(text, "is not a safetensors file")
    refused(tmp_path / "missing", "does not exist")
    refused(tmp_path, "is a directory")
    refused(text / "below", "cannot be read|does not exist")


def test_safetensors_of_another_program_are_refused(tmp_path: Path) -> None:
    refused(write_safetensors(tmp_path / "model", {"format": "pt"}), "is not one of eegen")
    half = {"tok_emb": np.zeros((2, 2), np.float16)}
    good = {key: json.dumps(value) for key, value in {"eegen": 1, **METADATA}.items()}
    refused(write_safetensors(tmp_path / "half", good, half), "tok_emb is float16, not float32")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eegen": "2"}, "has format 2; this eegen reads up to 1"),
        ({"eegen": "one"}, "its metadata cannot be read"),
        ({"config": "{"}, "its metadata cannot be read"),
        ({"config": "[]"}, "not of the expected kind"),
        ({"vocabulary": "12"}, "not of the expected kind"),
    ],
)
def test_damaged_metadata_are_refused(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    good = {key: json.dumps(value) for key, value in {"eegen": 1, **METADATA}.items()}
    refused(write_safetensors(tmp_path / "model", {**good, **changed}), message)


def test_a_checkpoint_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    refused(write_safetensors(tmp_path / "model", {"eegen": "1", "config": "{}", "training": "{}"}), "'vocabulary'")


def refused(path: Path, message: str) -> None:
    with pytest.raises(EegenError, match=message) as refusal:
        load(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({**SHAPES, "tok_emb": (4, 5)}, "of another model: tok_emb is 4×3, not 4×5"),
        ({**SHAPES, "lm_head": (4, 3)}, "of another model: it has no lm_head"),
        ({"tok_emb": (4, 3)}, "of another model: it also has layers.0.wq"),
    ],
)
def test_parameters_of_another_model_are_refused(
    path: Path, expected: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(EegenError, match=message):
        check_shapes(load(path), expected)


def test_parameters_of_this_model_are_accepted(path: Path) -> None:
    check_shapes(load(path), SHAPES)


def test_optimizer_state_that_fits_no_parameter_is_refused() -> None:
    for name, shape in (("m.tok_emb", (3, 4)), ("m.lm_head", (4, 3)), ("m", (4, 3))):
        damaged = Checkpoint(Path("model"), dict(TENSORS), {name: np.zeros(shape, np.float32)}, {}, "", {})
        with pytest.raises(EegenError, match=f"is damaged: optimizer.{name} fits no parameter"):
            check_shapes(damaged, SHAPES)
