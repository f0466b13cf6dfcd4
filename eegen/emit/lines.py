"""Long lines of generated C, broken where a reader would."""

from __future__ import annotations

import re

COLUMNS = 120
STRING = re.compile(r'"(?:\\.|[^"\\])*"')
BREAKS = re.compile(r", | (?=&& |\|\| |\? |: |\+ |\| |& )|= |; |(?<=\() ?")


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
    comment = False
    for line in (line.rstrip() for line in text.splitlines()):
        opened = comment or line.lstrip().startswith("/*")
        comment = opened and "*/" not in line
        if len(line) > columns and not line.startswith("/* ===="):
            lines += broken_comment(line, columns) if opened else broken_code(line, columns)
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
            line = inner.replace("\0", "") + word
        else:
            line += (" " if line.strip() else "") + word
    return [*lines, line]


def broken_code(line: str, columns: int) -> list[str]:
    """A line of code, broken inside the fewest parentheses; a comment at its end goes above it."""
    indent = " " * (len(line) - len(line.lstrip()))
    if match := re.fullmatch(r"(.*?;) */\* (.*) \*/", line):
        above = broken_comment(f"{indent}/* {match[2]} */", columns)
        return [*above, *(broken_code(match[1], columns) if len(match[1]) > columns else [match[1]])]
    lines = []
    further = indent + " " * 4
    while len(line) > columns:
        plain = STRING.sub(lambda match: "x" * len(match[0]), line)
        places = [match.end() for match in BREAKS.finditer(plain) if len(further) + 8 < match.end() <= columns]
        if not places:
            break
        depths = [plain.count("(", 0, at) + plain.count("{", 0, at) for at in places]
        depths = [depth - plain.count(")", 0, at) - plain.count("}", 0, at) for depth, at in zip(depths, places)]
        at = max(place for place, depth in zip(places, depths) if depth == min(depths))
        lines.append(line[:at].rstrip())
        line = further + line[at:].lstrip()
    return [*lines, line]
