"""Options: one record each with type, default, range and help; how a value is checked, parsed and read from TOML."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegen.errors import EegenError

TYPES: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Path: "a path",
}
METAVARS: dict[type, str] = {int: "N", float: "X", bool: "", str: "NAME", Path: "FILE"}


@dataclass(frozen=True)
class Option:
    """One option of a model, of training or of a command.

    `derive` computes the value from the other options where the default is given. `short` is the name in the title of
    a build; with `always`, the title shows the value even where it is the default.
    """

    name: str
    type: type
    default: Any = None
    help: str = ""
    range: tuple[int, int] | None = None
    choices: tuple[str, ...] = ()
    derive: Callable[[Mapping[str, Any]], Any] | None = None
    short: str = ""
    always: bool = False
    default_text: str = ""  # the default in help, where `default` does not say it
    metavar: str = ""
    flags: tuple[str, ...] = ()  # spellings on the command line, where `--name` is not it

    @property
    def flag(self) -> str:
        return self.flags[0] if self.flags else flag(self.name)

    @property
    def placeholder(self) -> str:
        """What stands for the value in help."""
        return self.metavar or METAVARS[self.type]

    @property
    def help_text(self) -> str:
        default = self.default_text or ("" if self.default in (None, False) else f"{self.default}")
        return f"{self.help} [default: {default}]" if default else self.help

    def check(self, value: Any) -> Any:
        """Return the value as a plain Python value of the option's type; refuse any other type, range or choice."""
        value = self._converted(value)
        if self.range and value != (self.default if self.derive else None):
            low, high = self.range
            if not low <= value <= high:
                raise EegenError(f"`{self.name}` is {value}; it must be {low} to {high}")
        if self.choices and value not in self.choices:
            raise EegenError(f"`{self.name}` is '{value}'; it must be one of {', '.join(self.choices)}")
        return value

    def parse(self, text: str) -> Any:
        """Return the value that a command line gives as text."""
        try:
            return self.type(text)
        except ValueError:
            raise EegenError(f"`{self.name}` is {text!r}; it must be {TYPES[self.type]}") from None

    def _converted(self, value: Any) -> Any:
        """NumPy's numbers become Python's; a bool is no number."""
        is_bool = type(value).__name__ in ("bool", "bool_")
        try:
            if self.type is bool and is_bool:
                return bool(value)
            if self.type is int and not is_bool:
                return operator.index(value)
            if self.type is float and not is_bool and isinstance(value, numbers.Real):
                return float(value)
            if self.type is str and isinstance(value, str):
                return str(value)
        except TypeError:
            pass
        raise EegenError(f"`{self.name}` is {value!r}; it must be {TYPES[self.type]}")


Group = dict[str, Option]
Given = dict[str, Any]  # the options that were given, by name


def group(options: Iterable[Option]) -> Group:
    return {option.name: option for option in options}


def flag(name: str) -> str:
    """An option's name as the command line spells it."""
    return "--" + name.replace("_", "-")


# --- TOML files of options


def read_options(path: Path, options: Group, texts: tuple[str, ...] = ()) -> tuple[Given, dict[str, str]]:
    """Return the options in a TOML file, at the top or under [model], [target], [train]; and its `texts`."""
    tables = {"model", "target", "train"}
    found_texts: dict[str, str] = {}
    flat: list[tuple[str, Any]] = []
    for key, value in read_toml(path).items():
        if key in texts:
            found_texts[key] = str(value)
        else:
            flat += value.items() if key in tables and isinstance(value, dict) else [(key, value)]
    found: Given = {}
    for key, value in flat:
        name = key.replace("-", "_")
        if name not in options:
            from difflib import get_close_matches

            close = get_close_matches(name, options, 1)
            hint = f"did you mean {close[0]}?" if close else f"the options are {', '.join(options)}"
            raise EegenError(f"{path} has the unknown option {key!r}; {hint}")
        found.setdefault(name, _toml_value(path, key, value, options[name]))
    return found, found_texts


def read_toml(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        import tomli as tomllib  # type: ignore[no-redef, import-not-found, unused-ignore]
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EegenError(f"configuration {path} does not exist") from None
    except OSError as error:
        raise EegenError(f"configuration {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EegenError(f"configuration {path} is not TOML: {error}") from None


def _toml_value(path: Path, key: str, value: Any, option: Option) -> Any:
    """A TOML value as the type of its option; an integer will do for a float, a path is relative to its file."""
    if option.type is float and type(value) is int:
        value = float(value)
    if option.type is Path and isinstance(value, str):
        return path.parent / value
    if type(value) is not option.type:
        raise EegenError(f"{path}: {key} is {value!r}; it must be {TYPES[option.type]}")
    return value
