"""How far a run is, in lines for people: a cell's end, its primary metric, the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from harness.results.record import Record
from harness.trial.task import Task


class Progress:
    """Counts the cells that end, and guesses the time left from what cells are expected to take.

    work_s: a task's expected seconds of one core. report is called with each line.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        work_s: Callable[[Task], float],
        report: Callable[[str], None],
    ) -> None:
        tasks = list(tasks)
        self._work_s, self._report = work_s, report
        self._total = sum(len(task.cells) for task in tasks)
        self._ended = 0
        self._total_s = sum(map(work_s, tasks))
        self._begun = time.monotonic()

    def ended(self, records: Iterable[Record], pending: Iterable[Task]) -> None:
        """Report cells that have just ended, ``pending`` being what is left to do."""
        left_s = sum(map(self._work_s, pending))
        done_s = max(self._total_s - left_s, 1e-9)
        eta_s = (time.monotonic() - self._begun) * left_s / done_s
        for record in records:
            self._ended += 1
            self._report(
                f"[{self._ended}/{self._total}] {record.cell.id} {record.status} "
                f"{headline(record)} (about {eta_s:.0f} s left)"
            )


def headline(record: Record) -> str:
    """The primary metric (the first that the model has), or the reason there is none."""
    if record.metrics and not record.reason:
        name = next(name for name in record.directions if name in record.metrics)
        return f"{name} {record.metrics[name]:.4g}"
    return record.reason
