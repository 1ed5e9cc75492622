"""Check whether a training keeps what a training promises: one line for each promise.

TOPIC is MODULE:NAME of a topic here (an instance, a class, or a function that returns one), or the
name of a topic that is installed or that the project's conftests give. Exit code 1 if a check
fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness import options
from harness.results.bounds import printable
from harness.topics.options import TOPIC_OPTIONS

if TYPE_CHECKING:
    from harness.cell import Cell
    from harness.conformance.finding import Finding
    from harness.training.topic import Topic

MARKS = {"holds": "✓", "fails": "✗", "does not apply": "–"}  # noqa: RUF001
WIDTH = 19  # of the marks and names before a line's text
LEAST_COLUMNS = 60


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("topic", metavar="TOPIC", help="MODULE:NAME, or a topic's name")
    parser.add_argument(
        "paths", nargs="*", default=[], help="of the project's tests, whose conftests have topics"
    )
    for axis, usual in (("model", "the first that trains"), ("loss", ""), ("schedule", "")):
        parser.add_argument(f"--{axis}", metavar="NAME", help=usual or "the recipe's")
    options.add(parser.add_argument, TOPIC_OPTIONS)


def run(chosen: argparse.Namespace) -> int:
    """Check the chosen topic, print a line for each check; return 1 if one fails."""
    from harness import project
    from harness.cell import UsageError
    from harness.conformance import checks
    from harness.conformance.subject import Source, chosen_cell, declared, imported, named, subject
    from harness.interrupts import end_as_by_ctrl_c

    begun, told = time.monotonic(), options.given(chosen, TOPIC_OPTIONS)
    known = project.topics_of(chosen.paths, **told)  # and what the project brings to the axes
    topic = imported(chosen.topic) if ":" in chosen.topic else named(chosen.topic, known)
    source = Source(chosen.topic, (*chosen.paths,), told)
    lines = _Lines()
    if mistake := declared(topic):
        lines.show(checks.DECLARED, mistake)
        return lines.end(begun)
    cell = chosen_cell(topic, chosen.model, chosen.loss, chosen.schedule)
    print(_heading(topic, cell, chosen.model is None), flush=True)
    lines.show(checks.DECLARED, checks.DECLARED_RIGHT)
    with ExitStack() as ending, tempfile.TemporaryDirectory() as folder:
        end_as_by_ctrl_c(ending.callback)
        with subject(topic, cell, Path(folder), source) as it:
            every = checks.checks()
            lines.wait(every[0].name, len(every))
            for number, (check, finding) in enumerate(checks.run_all(it), 1):
                if finding.refused and finding.ends:
                    lines.clear()
                    raise UsageError(finding.text)
                lines.show(check.name, finding)
                if number < len(every):
                    lines.wait(every[number].name, len(every) - number)
    return lines.end(begun)


def _heading(topic: Topic, cell: Cell, first: bool) -> str:
    """Say what is checked."""
    others = len(topic.models) - 1
    model = f"{cell.model} (of {others + 1} models: --model)" if first and others else cell.model
    size = topic.budget("smoke", cell.model).batch_size
    return f"{cell.topic}: {model}, {cell.loss}, {cell.schedule}, batches of {size}, on the CPU"


class _Lines:
    """Prints findings: aligned, with marks, on a terminal; elsewhere one plain line each."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._moves = self._terminal and os.environ.get("TERM") != "dumb"
        self._counts: Counter[str] = Counter()

    def wait(self, name: str, left: int) -> None:
        """Say on a terminal which check runs, and how many are left with it."""
        if self._moves:
            print(f"\r\x1b[2K... {name} ({left} left)", end="", flush=True)

    def clear(self) -> None:
        """Remove what was said on a terminal of the check that runs."""
        if self._moves:
            print("\r\x1b[2K", end="", flush=True)

    def show(self, name: str, finding: Finding) -> None:
        """Print what a check found."""
        self._counts[finding.status] += 1
        self.clear()
        parts = [finding.text, *([f"-> {finding.todo}"] if finding.todo else [])]
        if not self._terminal:
            print(printable(f"{finding.status} {name}: {' '.join(parts)}"), flush=True)
            return
        columns = max(LEAST_COLUMNS, shutil.get_terminal_size().columns) - 1
        head = f"{_mark(finding.status)} {name}".ljust(WIDTH + len(_mark(finding.status)))
        rows = [
            row for part in parts for row in textwrap.wrap(printable(part), columns - len(head))
        ]
        for number, row in enumerate(rows):
            print((" " * len(head) if number else head) + row, flush=True)

    def end(self, begun: float) -> int:
        """Print the counts, and return the exit code."""
        counts = self._counts
        words = (f"{counts['holds']} hold", f"{counts['fails']} fail")
        took = f"{time.monotonic() - begun:.0f} s"
        print(f"{', '.join(words)}, {counts['does not apply']} do not apply ({took})")
        return 1 if counts["fails"] else 0


def _mark(status: str) -> str:
    """Return a status as a sign, or as a word where the output's encoding has none."""
    try:
        "".join(MARKS.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return {"holds": "ok  ", "fails": "FAIL", "does not apply": "-   "}[status]
    return MARKS[status]
