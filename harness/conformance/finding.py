"""What a check found: the promise holds, fails (where, and what to do) or does not apply (why)."""

from __future__ import annotations

import inspect
import linecache
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Literal

from harness.sources import is_librarys
from harness.training.topic import Topic

Status = Literal["holds", "fails", "does not apply"]

FRAME = re.compile(r'File "(.+)", line (\d+), in (\S+)')


@dataclass(frozen=True)
class Finding:
    """One check's result, as one line. todo: what mends it, if it fails; empty: nothing to say.

    ends: no other check can tell anything then, such as where the training does not run at all.
    refused: text is a refusal of what the topic or its parts are, as a UsageError words it.
    """

    status: Status
    text: str
    todo: str = ""
    ends: bool = False
    refused: bool = False


def holds(text: str) -> Finding:
    """Return that a promise is kept; text: what was seen."""
    return Finding("holds", text)


def fails(text: str, todo: str) -> Finding:
    """Return that a promise is broken; text: where and by how much. todo: what mends it."""
    return Finding("fails", text, todo)


def does_not_apply(why: str) -> Finding:
    """Return that a promise is none for this training; why: as a sentence."""
    return Finding("does not apply", why)


def crashed(trace: str, topic: Topic | None = None) -> Finding:
    """Return the finding of a traceback: the error, and the last line of the topic's own code.

    trace: as Python formats it. topic: whose folder's code is meant; None: all that is neither a
    library's nor this package's.
    """
    error = _error(trace)
    where = _own_line(trace, topic)
    return fails(
        f"it raises {error}{f' ({where})' if where else ''}",
        "mend this line first" if where else "see what the topic gives to PyTorch there",
    )


def raised(error: BaseException, topic: Topic | None = None) -> Finding:
    """Return the finding of an exception, as ``crashed`` does of its traceback."""
    return crashed("".join(traceback.format_exception(error)), topic)


def refused(error: str) -> Finding:
    """Return the finding of a UsageError's line, which says by itself what to do."""
    return Finding("fails", error, refused=True)


def line_of(function: object) -> str:
    """Return where a function is written, ``mine.py:40``; empty if that is not known.

    Of a library's, such as an objective of this package's, it is the project's own function that it
    closes over, such as a loss, if there is one.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)  # type: ignore[arg-type]
    if code and is_librarys(code.co_filename):
        code = next(_own_codes(function), code)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""


def _own_codes(function: object) -> Iterator[CodeType]:
    """Yield the code of each project's function that a function closes over, or what that holds."""
    for cell in getattr(function, "__closure__", None) or ():
        try:
            part = cell.cell_contents
        except ValueError:  # empty
            continue
        for value in map(_unwrapped, (part, *getattr(part, "__dict__", {}).values())):
            if isinstance(value, FunctionType) and not is_librarys(value.__code__.co_filename):
                yield value.__code__


def _unwrapped(value: object) -> object:
    return inspect.unwrap(value) if isinstance(value, FunctionType) else value


def _error(trace: str) -> str:
    """Return a traceback's error, its class without the module, in one line of bounded length."""
    lines = trace.rstrip().splitlines()
    begin = max((n for n, text in enumerate(lines) if FRAME.search(text)), default=-1) + 1
    told = [text for text in lines[begin:] if text and not text.startswith(" ")]
    text = " ".join((told or lines[-1:])[0].split())
    kind, colon, message = text.partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"[:240]


def _own_line(trace: str, topic: Topic | None) -> str:
    """Return the last frame of the topic's own code, as ``mine.py:31 in objective: its code``."""
    try:
        home = str(Path(inspect.getfile(type(topic))).parent) if topic else ""
    except (OSError, TypeError):
        home = ""
    frames = FRAME.findall(trace)
    own = [f for f in frames if not f[0].startswith("<") and not is_librarys(f[0])]
    if not own and home:  # an installed topic's, or a built-in one's
        own = [f for f in frames if f[0].startswith(home + "/")]
    if not own:
        return ""
    file, number, function = own[-1]
    code = linecache.getline(file, int(number)).strip()
    return f"{Path(file).name}:{number} in {function}{f': {code}' if code else ''}"
