"""A trained model in one safetensors file: parameters, optimizer state, configuration, vocabulary, training state."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from eegen.errors import EegenError, EegenFailure

FORMAT = 1
OPTIMIZER = "optimizer."  # optimizer.<moment>.<parameter>, such as optimizer.m.tok_emb

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    path: Path
    tensors: Tensors
    optimizer: Tensors  # by <moment>.<parameter>
    config: dict[str, Any]
    vocabulary: str
    training: dict[str, Any]


def save(
    path: Path,
    tensors: Mapping[str, NDArray[np.float32]],
    optimizer: Mapping[str, NDArray[np.float32]],
    metadata: Mapping[str, Any],
) -> None:
    """Write a checkpoint completely or not at all; an older file at `path` stays until the new one is on the disk.

    `optimizer` is keyed `<moment>.<parameter>`; `metadata` holds `config`, `vocabulary` and `training`, JSON values.
    """
    named = {**tensors, **{OPTIMIZER + name: array for name, array in optimizer.items()}}
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in named.items()}
    described = {"eegen": FORMAT, **{key: metadata[key] for key in ("config", "vocabulary", "training")}}
    blob = safetensors.numpy.save(arrays, {key: json.dumps(value) for key, value in described.items()})
    replace_file(path, _in_fixed_order(blob))


def load(path: Path) -> Checkpoint:
    path = Path(path)
    if path.is_dir():
        raise EegenError(f"checkpoint {path} is a directory; give the .safetensors file")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise EegenError(f"checkpoint {path} does not exist") from None
    except OSError as error:
        raise EegenError(f"checkpoint {path} cannot be read: {error.strerror or error}") from None
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise EegenError(f"checkpoint {path} {_describe_damage(path)} ({error})") from None
    return _checkpoint(path, arrays, metadata)


def check_shapes(checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise an error for a checkpoint whose parameters are not `expected`, names with shapes."""
    found = {name: tuple(array.shape) for name, array in checkpoint.tensors.items()}
    for name, shape in expected.items():
        if name not in found:
            raise EegenError(f"checkpoint {checkpoint.path} is of another model: it has no {name}")
        if found[name] != tuple(shape):
            wrong = f"{name} is {_dimensions(found[name])}, not {_dimensions(shape)}"
            raise EegenError(f"checkpoint {checkpoint.path} is of another model: {wrong}")
    if surplus := sorted(found.keys() - expected.keys()):
        raise EegenError(f"checkpoint {checkpoint.path} is of another model: it also has {surplus[0]}")
    for name, array in checkpoint.optimizer.items():
        parameter = name.partition(".")[2]
        if parameter not in found or array.shape != found[parameter]:
            raise EegenError(f"checkpoint {checkpoint.path} is damaged: {OPTIMIZER}{name} fits no parameter")


def check_destination(path: Path) -> None:
    """Raise the error that `save` would raise for lack of a folder or a permission, before a long training run."""
    _write(path, b"", keep=False)


def replace_file(path: Path, content: bytes) -> None:
    """Replace the file at `path` in one step: after a crash it is the old file or the new one."""
    _write(path, content, keep=True)


def _write(path: Path, content: bytes, keep: bool) -> None:
    path = Path(os.path.realpath(path))  # a link stays a link
    if path.exists() and not path.is_file():
        raise EegenError(f"cannot write {path}: it is {'a directory' if path.is_dir() else 'not a regular file'}")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if keep:
                os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise EegenFailure(f"cannot write {path}: {error.strerror or error}; nothing was changed") from None


def _in_fixed_order(blob: bytes) -> bytes:
    """The same file with its metadata sorted: safetensors writes them in an order that differs from run to run."""
    end = 8 + int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + blob[end:]


def _describe_damage(path: Path) -> str:
    """A file whose first bytes are a safetensors header is damaged; anything else is another kind of file."""
    with path.open("rb") as file:
        length, opening = int.from_bytes(file.read(8), "little"), file.read(1)
    return "is truncated or damaged" if opening == b"{" and length < 1 << 27 else "is not a safetensors file"


def _checkpoint(path: Path, arrays: dict[str, NDArray[Any]], metadata: Mapping[str, str]) -> Checkpoint:
    if "eegen" not in metadata:
        raise EegenError(f"checkpoint {path} is not one of eegen: its metadata has no eegen entry")
    try:
        version = int(json.loads(metadata["eegen"]))
        if version > FORMAT:
            raise EegenError(f"checkpoint {path} has format {version}; this eegen reads up to {FORMAT}: update eegen")
        config, vocabulary, training = (json.loads(metadata[key]) for key in ("config", "vocabulary", "training"))
    except (KeyError, TypeError, ValueError) as error:
        raise EegenError(f"checkpoint {path} is damaged: its metadata cannot be read ({error})") from None
    if not (isinstance(config, dict) and isinstance(vocabulary, str) and isinstance(training, dict)):
        raise EegenError(f"checkpoint {path} is damaged: its metadata is not of the expected kind")
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise EegenError(f"checkpoint {path} is not one of eegen: {name} is {array.dtype}, not float32")
    tensors = {name: array for name, array in arrays.items() if not name.startswith(OPTIMIZER)}
    optimizer = {name.removeprefix(OPTIMIZER): array for name, array in arrays.items() if name not in tensors}
    return Checkpoint(path, tensors, optimizer, config, vocabulary, training)


def _dimensions(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a scalar"
