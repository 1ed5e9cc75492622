"""Show how far a run is: a line for each cell that ends, and one line with where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from harness.cell import FAULTS, Cell
from harness.results.record import Record
from harness.trial.task import Task

LONG_S = 3600


class Progress:
    """Counts a run's cells as they end, estimates the time left, and reports both as text.

    wall_s: by cell to train, its expected share of the run's seconds. report is called
    with a line for good; stand, if there is one, with the cells done, all cells, and text that
    takes the place of what it was given before. With it, only faults get a line.
    """

    def __init__(
        self,
        wall_s: Mapping[Cell, float],
        report: Callable[[str], None],
        stand: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self._wall_s, self._report, self._stand = wall_s, report, stand
        self._total_s = sum(wall_s.values())
        self._ended = self._failed = 0
        self._begun = time.monotonic()

    def ended(self, records: Iterable[Record], pending: Iterable[Task]) -> None:
        """Report cells that have just ended; ``pending`` are the tasks that are left."""
        left = self._left(pending)
        for record in records:
            self._ended += 1
            self._failed += record.status in FAULTS
            if self._stand is None or record.status in FAULTS:
                self._report(
                    f"[{self._ended}/{len(self._wall_s)}] {record.cell.id} {record.status} "
                    f"{headline(record)} ({left})"
                )

    def now(self, pending: Iterable[Task], running: Iterable[Task]) -> None:
        """Report to ``stand`` how many cells are done, run and have failed, and the time left."""
        if self._stand is not None:
            at_work = sum(len(task.cells) for task in running)
            text = f"{at_work} running, {self._failed} failed, {self._left(pending)}"
            self._stand(self._ended, len(self._wall_s), text)

    def _left(self, pending: Iterable[Task]) -> str:
        """Return the expected time left as text, from the share of work that is done so far."""
        left_s = sum(self._wall_s[cell] for task in pending for cell in task.cells)
        done_s = self._total_s - left_s
        if done_s <= 1e-9 * self._total_s:  # sums differ by rounding
            return "time left not known yet"
        return f"about {_duration((time.monotonic() - self._begun) * left_s / done_s)} left"


def warning(seconds: float) -> str:
    """Say what a run costs that takes over an hour, and what answers sooner; empty if it does not.

    seconds: on all cores.
    """
    if seconds <= LONG_S:
        return ""
    return (
        f"; about {_duration(seconds)} on this machine: --profile race --minutes M tells which "
        "recipes are best in the minutes that it is given"
    )


def headline(record: Record) -> str:
    """Return a record's primary metric (the first that the model has), or why there is none."""
    found = record.metrics or record.validation
    if found and not record.reason:
        name = next(name for name in record.directions if name in found)
        return f"{name} {found[name]:.4g}"
    return record.reason


def _duration(seconds: float) -> str:
    """Return seconds as text, in seconds, minutes, hours or days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.0f} days"
