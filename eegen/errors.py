"""Errors that a user sees: one clear line each.

A message names an option by its name in backquotes, `n_heads`, as Python spells it; the command line prints its flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

OPTION = re.compile(r"`(\w+)`")


class EegenError(Exception):
    """Bad input. The command line prints the message and exits with 2.

    `hints` end the message with advice, by the option that the advice is about: a command without it leaves it out.
    """

    exit_code = 2

    def __init__(self, message: str, **hints: str) -> None:
        super().__init__(message + "".join(hints.values()))
        self.message, self.hints = message, hints

    def for_command(self, flags: Mapping[str, str]) -> str:
        """The message in the words of a command, whose options and their spelling are `flags`."""
        text = self.message + "".join(hint for option, hint in self.hints.items() if option in flags)
        return OPTION.sub(lambda found: flags.get(found[1], found[1]), text)


class EegenFailure(EegenError):
    """A failure outside the input: a full disk, a failing compiler. Exit code 1."""

    exit_code = 1
