"""A comparison as text, the worst rows first and the verdict last, and as JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from harness.cell import UsageError
from harness.files import write_atomically
from harness.results.compare.rows import Row
from harness.results.verdict import Verdict

HEAD = ("verdict", "topic", "aspect", "baseline", "candidate", "note")


class Comparison(Protocol):
    """What is asked of a comparison here."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Its rows, the worst first."""

    @property
    def verdict(self) -> Verdict:
        """The verdict over all rows."""

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many rows have each verdict."""

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""


def lines(comparison: Comparison, width: int = 100) -> Iterator[str]:
    """Yield the lines of a table of all rows, and the verdict with the count of rows of each.

    A note that does not fit into ``width`` characters follows below its row.
    """
    cells = [HEAD]
    for row in comparison.rows:
        figures = (_figure(row.baseline), _figure(row.candidate))
        cells.append((str(row.verdict), row.topic, row.aspect, *figures, row.note))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    for line in cells:
        left = "  ".join(line[i].ljust(widths[i]) for i in range(3))
        right = "  ".join(line[i].rjust(widths[i]) for i in (3, 4))
        text = f"{left}  {right}  {line[5]}".rstrip()
        if len(text) <= width:
            yield text
        else:
            yield f"{left}  {right}".rstrip()
            indent = " " * (widths[0] + 2)
            yield from textwrap.wrap(
                line[5],
                width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
                break_long_words=False,
            )
    counts = ", ".join(f"{n} {verdict}" for verdict, n in comparison.counts.items() if n)
    yield f"verdict: {comparison.verdict} (rows: {counts})"


def _figure(value: float) -> str:
    """Return a number to five digits, as a dash if there is none."""
    return "-" if math.isnan(value) else f"{value:.5g}"


def write_json(path: Path, comparison: Comparison, baseline: Path, candidate: Path) -> None:
    """Write a comparison and both runs' folders as JSON, all of the file or nothing.

    Raises UsageError if that is not possible.
    """
    told = {"baseline": str(baseline), "candidate": str(candidate), **comparison.to_dict()}
    try:
        write_atomically(path, json.dumps(told, indent=1, allow_nan=False).encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
