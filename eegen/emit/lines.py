"""Long lines of generated C, broken where a reader would."""

from __future__ import annotations

import re

COLUMNS = 120
BREAKS = re.compile(r", | (?=&& |\|\| |\? |: |\+ |\| |& )|= |; |(?<=\() ?")
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')


def shell(command: str, columns: int = COLUMNS - 12) -> list[str]:
    """A command of a shell as lines that go on with a backslash."""
    lines = [""]
    for word in command.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def fit(text: str, columns: int = COLUMNS) -> str:
    """The text with every longer line broken; no trailing blanks, and never two empty lines in a row."""
    lines: list[str] = []
    comment = macro = False
    for line in (line.rstrip() for line in text.splitlines()):
        opened = comment or line.lstrip().startswith("/*")
        comment = opened and "*/" not in line
        directive = macro or line.startswith("#")
        macro = directive and line.endswith("\\")
        if len(line) > columns and not line.startswith("/* ===="):
            breaking = broken_comment if opened else broken_directive if directive else broken_code
            lines += breaking(line, columns)
        elif line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines) + "\n"


def broken_comment(line: str, columns: int) -> list[str]:
    """A line of a comment, broken between words; a line that opens one indents the rest under its text."""
    indent = len(line) - len(line.lstrip())
    text = line[indent:]
    inner = " " * (indent + (3 if text.startswith("/*") else len(text) - len(text.lstrip("* "))))
    lines, line = [], " " * indent
    for word in text.split(" "):
        if len(line) + 1 + len(word) > columns and line.strip():
            lines.append(line.rstrip())
            line = inner + word
        else:
            line += (" " if line.strip() else "") + word
    return [*lines, line]


def broken_directive(line: str, columns: int) -> list[str]:
    """A line of a preprocessor directive, broken like code; every line but the last ends with a backslash."""
    goes_on = line.endswith("\\")
    *first, last = broken_code(line.removesuffix("\\").rstrip(), columns - 2)
    return [*(f"{part} \\" for part in first), f"{last} \\" if goes_on else last]


def broken_code(line: str, columns: int) -> list[str]:
    """A line of code, broken inside the fewest parentheses; a comment at its end goes above it."""
    indent = " " * (len(line) - len(line.lstrip()))
    if match := re.fullmatch(r"(.*?;) */\* (.*) \*/", line):
        above = broken_comment(f"{indent}/* {match[2]} */", columns)
        return [*above, *(broken_code(match[1], columns) if len(match[1]) > columns else [match[1]])]
    lines = []
    further = indent + " " * 4
    while len(line) > columns:
        texts = [range(*match.span()) for match in STRINGS.finditer(line)]
        places = [match.end() for match in BREAKS.finditer(line) if len(further) + 8 < match.end() <= columns]
        places = [at for at in places if not any(at in text for text in texts)]
        if not places:
            break
        depths = [line.count("(", 0, at) + line.count("{", 0, at) for at in places]
        depths = [depth - line.count(")", 0, at) - line.count("}", 0, at) for depth, at in zip(depths, places)]
        at = max(place for place, depth in zip(places, depths) if depth == min(depths))
        lines.append(line[:at].rstrip())
        line = further + line[at:].lstrip()
    return [*lines, line]
