"""Bounds on what a record or a side file may hold, so that one bad file cannot cost a page."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEXT = 2_000  # characters
FILE_BYTES = 64_000_000
DEPTH = 16
ENTRIES = 1_000
NAME = 200  # characters of a key
POINTS = 100_000  # items of a list
INTEGER = 2**63
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(value: str) -> str:
    r"""Return text that JSON, Parquet, CSV, HTML and a terminal can all hold.

    Surrogates (a path that is no UTF-8 has them) and control characters other than newline and tab
    become escapes such as ``\udcff`` and ``\x1b``.
    """
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], value)


def text(value: str, most: int = TEXT) -> str:
    """Return printable text of at most ``most`` characters (100 or more): its head and its tail.

    Between them it says how many characters were left out.
    """
    value = printable(value)
    if len(value) <= most:
        return value
    room = most - 60  # for the words between
    head = room // 2
    tail = room - head
    return f"{value[:head]} ... {len(value) - room} characters left out ... {value[-tail:]}"


def texts(value: Any) -> Any:
    """Return a plain value with every text in it, keys included, as ``text`` bounds it."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(key) if isinstance(key, str) else key: texts(v) for key, v in value.items()}
    return [texts(item) for item in value] if isinstance(value, list) else value


def line(value: str) -> str:
    """Return text as one printable line of bounded length."""
    return text(" ".join(value.split()), 500)


def check(value: Any, depth: int = DEPTH) -> None:
    """Raise ValueError for a JSON value beyond these bounds.

    It is nested deeper than 16, has an integer of more than 64 bits, a key of more than 200
    characters, an object of more than 1,000 entries, or a list of more than 100,000 items.
    """
    if isinstance(value, int) and not -INTEGER <= value < INTEGER:
        raise ValueError("an integer has more than 64 bits")
    if not isinstance(value, dict | list):
        return
    if not depth:
        raise ValueError(f"it is nested deeper than {DEPTH}")
    if len(value) > (ENTRIES if isinstance(value, dict) else POINTS):
        raise ValueError(f"an {'object' if isinstance(value, dict) else 'array'} is too long")
    if isinstance(value, dict) and any(len(key) > NAME for key in value):
        raise ValueError(f"a name has more than {NAME} characters")
    for item in value.values() if isinstance(value, dict) else value:
        check(item, depth - 1)


def read_bytes(path: Path, most: int = FILE_BYTES) -> bytes:
    """Read a regular file of at most ``most`` bytes.

    Raises FileNotFoundError if there is none, and ValueError if it is none that can be read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no file")
        if found.st_size > most:
            raise ValueError(f"it has {found.st_size:,} bytes, {most:,} are allowed")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None


def cut(lines: list[str], most: int = 20) -> Iterator[str]:
    """Yield the first ``most`` lines, and one that says how many more there are."""
    yield from lines[:most]
    if len(lines) > most:
        yield f"and {len(lines) - most:,} more"
