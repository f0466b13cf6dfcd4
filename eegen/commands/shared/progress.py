"""A line in the terminal with the progress of training."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from eegen.train.loop import Chunk

BAR = 16  # characters
REDRAW = 0.1  # seconds
BETWEEN_LINES = 10.0  # seconds, where the output is no terminal


class Progress:
    """Step, loss, speed and time left: redrawn in place in a terminal, else a plain line every ten seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.due = time.monotonic() + (0.0 if self.live else BETWEEN_LINES)
        self.shown = False

    def __call__(self, chunk: Chunk) -> None:
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + (REDRAW if self.live else BETWEEN_LINES)
        text = self.format(chunk)
        if self.live:
            self.stream.write("\r" + text[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
            self.shown = True
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def format(self, chunk: Chunk) -> str:
        filled = round(BAR * chunk.share)
        return "  ".join(
            [
                f"{'━' * filled}{'╌' * (BAR - filled)} {chunk.share:4.0%}",
                f"step {chunk.position.done:,}",
                f"loss {chunk.position.loss:.4f}",
                f"{chunk.us_per_step:,.1f} µs a step",
                f"ETA {format_duration(chunk.remaining)}",
            ]
        )

    def close(self) -> None:
        """Erase the line."""
        if self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.shown = False


def format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
