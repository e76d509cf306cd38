"""JSON with the line of every value, so that a wrong file can be answered with the place that is wrong."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Pointer = tuple[str | int, ...]
"""The way from the root to a value: names in objects, places in lists."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')


@dataclass(frozen=True, slots=True)
class WrongLine(Exception):
    """`line` counts from 1."""

    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class Located:
    """A parsed document and where its values begin."""

    value: Any
    lines: dict[Pointer, int]

    def line(self, pointer: Pointer) -> int:
        """The line of the value at `pointer`, or of the nearest thing around it that is there."""
        while pointer not in self.lines and pointer:
            pointer = pointer[:-1]
        return self.lines[pointer]


def parse_located(data: bytes) -> Located:
    """Raises WrongLine for what is not JSON in UTF-8, or names one thing twice in an object."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as why:
        raise WrongLine(data.count(b"\n", 0, why.start) + 1, "not UTF-8 text") from None
    lines: dict[Pointer, int] = {}
    try:
        value = json.loads(text)
        # It is JSON: from here on the tokens only need to be counted, not doubted.
        _locate(_tokens(text), (), lines)
    except json.JSONDecodeError as why:
        raise WrongLine(why.lineno, f"not JSON: {why.msg}") from None
    except (RecursionError, ValueError):  # nested without end, or a number of thousands of digits
        raise WrongLine(1, "not JSON that can be read") from None
    return Located(value, lines)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, seen = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", seen, match.start())
        seen = match.start()
        yield match[0], line


def _locate(tokens: Iterator[tuple[str, int]], pointer: Pointer, lines: dict[Pointer, int]) -> bool:
    """Note the next value and all inside it. False when there was none, but the end of a list."""
    token, line = next(tokens)
    if token == "]":  # noqa: S105 (of a parser)
        return False
    lines[pointer] = line
    if token == "[":  # noqa: S105
        place = 0
        while _locate(tokens, (*pointer, place), lines) and next(tokens)[0] == ",":
            place += 1
    elif token == "{":  # noqa: S105
        _locate_names(tokens, pointer, lines)
    return True


def _locate_names(tokens: Iterator[tuple[str, int]], pointer: Pointer, lines: dict[Pointer, int]) -> None:
    for token, line in tokens:
        if token == "}":  # noqa: S105
            return
        if token == ",":  # noqa: S105
            continue
        name = json.loads(token)
        if (*pointer, name) in lines:
            raise WrongLine(line, f"{name!r} is there twice")
        next(tokens)  # the colon
        _locate(tokens, (*pointer, name), lines)
