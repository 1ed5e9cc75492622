"""Compare two runs from what lies in their folders."""

from __future__ import annotations

from pathlib import Path

from harness.results import frames, outdated
from harness.results.compare.comparable import NotComparable
from harness.results.compare.comparison import Comparison, compare
from harness.results.counted import current


def of_folders(baseline: Path, candidate: Path) -> tuple[Comparison, list[str]]:
    """Compare the runs of two folders; also return a line for each file that could not be read.

    What is outdated in its folder is left out, which a line says too.
    Two that measured different things are refused in the comparison. Raises UsageError for a folder
    without cells.
    """
    (a, unread), (b, more) = frames.read(baseline), frames.read(candidate)
    unread += more + outdated.lines(a) + outdated.lines(b)
    a, b = a[current(a)], b[current(b)]
    speeds = frames.speed(baseline, unread), frames.speed(candidate, unread)
    try:
        return compare(a, b, speeds), unread
    except NotComparable as error:
        return Comparison(refused=str(error)), unread
