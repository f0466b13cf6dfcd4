"""One line in the terminal that says how far training is."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from eegen.train.loop import Chunk

BAR = 16  # characters
REDRAW = 0.1  # seconds
QUIET = 10.0  # seconds between lines where the output is no terminal


class Progress:
    """Step, loss, speed and time left: redrawn in place in a terminal, else a plain line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.due = time.monotonic() + (0.0 if self.live else QUIET)
        self.shown = False

    def __call__(self, chunk: Chunk) -> None:
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + (REDRAW if self.live else QUIET)
        text = self.text(chunk)
        if self.live:
            self.stream.write("\r" + text[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
            self.shown = True
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def text(self, chunk: Chunk) -> str:
        filled = round(BAR * chunk.share)
        return "  ".join(
            [
                f"{'━' * filled}{'╌' * (BAR - filled)} {chunk.share:4.0%}",
                f"step {chunk.position.done:,}",
                f"loss {chunk.position.loss:.4f}",
                f"{chunk.us_per_step:,.1f} µs a step",
                f"ETA {duration(chunk.remaining)}",
            ]
        )

    def close(self) -> None:
        """Take the line away: what follows says more."""
        if self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.shown = False


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
