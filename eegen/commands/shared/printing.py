"""What commands print: lines wrapped at words to the width of the terminal, JSON, errors and notes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

LABEL = 13  # columns of the labels of `print_fields`


def terminal_width(stream: TextIO) -> int | None:
    """The columns to fill: those of COLUMNS or of the terminal; None for a pipe, whose lines have any length."""
    return shutil.get_terminal_size().columns if os.environ.get("COLUMNS") or stream.isatty() else None


def wrap(text: str, width: int | None, indent: str) -> str:
    """`text` in lines of at most `width` columns, broken at spaces; `indent` begins all lines but the first.

    A no-break space is printed as a space.
    """
    if width is not None and len(text) > width:
        width = max(width, len(indent) + 20)
        text = textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return text.replace("\u00a0", " ")


def print_text(text: str, indent: str = "") -> None:
    print(wrap(text, terminal_width(sys.stdout), indent))


def print_fields(fields: Iterable[tuple[str, str]], label: int = LABEL) -> None:
    """A line for each field: its label, then its value, aligned."""
    for name, value in fields:
        print_text(f"{name:<{label - 1}} {value}", " " * label)


def print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))


def print_note(text: str) -> None:
    """A note or an error on stderr: one line, wrapped in a terminal only."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    print(wrap(f"eegen: {text}", width, "       "), file=sys.stderr)


def format_count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def json_number(x: float) -> float | None:
    """JSON has no NaN."""
    return x if x == x else None
