"""The log of a training run: a line of JSON for each step, written after each chunk of steps."""

from __future__ import annotations

import json
import math
from pathlib import Path

from eegen.errors import EegenError, EegenFailure
from eegen.train.loop import Chunk


class StepLog:
    """Writes the log of a run. A resumed run keeps the lines of the first `keep` steps."""

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        kept = lines_before(path, keep) if keep else []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("w", encoding="utf-8")
            self.file.writelines(kept)
            self.file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def write(self, chunk: Chunk) -> None:
        try:
            for i, (loss, lr) in enumerate(zip(chunk.losses.tolist(), chunk.lr.tolist())):
                line = {"step": chunk.first + i, "loss": loss if math.isfinite(loss) else None, "lr": lr}
                self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        self.file.close()

    def _failure(self, error: OSError) -> EegenError:
        failure = EegenError if isinstance(error, IsADirectoryError) else EegenFailure
        return failure(f"cannot write the log {self.path}: {error.strerror or error}")


def lines_before(path: Path, step: int) -> list[str]:
    """The complete lines of an earlier log up to a step."""
    kept = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if not line.endswith("\n") or json.loads(line)["step"] > step:
                    break
                kept.append(line)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return kept
