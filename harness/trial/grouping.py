"""Group a run's tasks into populations that train at once, for as long as that pays."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from harness.cell import FP32
from harness.trial.population import PopulationTask
from harness.trial.task import Task

LARGEST = 32  # cells of a population
SMALLEST = 8  # fewer gain little and leave the other cores idle


class Grouping:
    """Groups tasks into populations, and remembers the models for which that does not pay.

    largest: the most tasks of a population. compiled: whether the populations' steps are compiled.
    """

    def __init__(self, largest: int = LARGEST, compiled: bool = False) -> None:
        self.largest, self.compiled = largest, compiled
        self._separate: set[tuple[str, str]] = set()

    def group(self, tasks: Iterable[Task]) -> list[Task]:
        """Put the tasks that may train as one into populations; return these and all other tasks.

        Tasks of one population share topic, settings, model, loss, budget and device, and run in
        one process. Fewer than SMALLEST stay as they are, and so do models for which it was seen
        not to pay.
        """
        found: list[Task] = []
        for _, some in groupby(sorted(tasks, key=self._kind), key=self._kind):
            alike = tuple(some)
            for first in range(0, len(alike), self.largest):
                part = alike[first : first + self.largest]
                whole = len(part) >= SMALLEST
                found += [PopulationTask.of(part, self.compiled)] if whole else part
        return found

    def separate(self, task: PopulationTask, waiting: Iterable[Task]) -> list[PopulationTask]:
        """Stop grouping a population's model; return it and the waiting populations of such models.

        The caller is to run the cells of all these one by one.
        """
        self._separate.add(_model(task))
        alike = (other for other in waiting if isinstance(other, PopulationTask))
        return [task, *(other for other in alike if _model(other) in self._separate)]

    def _kind(self, task: Task) -> tuple[str, ...]:
        """Return a key that is equal for tasks that may train as one population, and sorts them."""
        cell = task.cell
        plain = cell.parallel == "single" and cell.precision == FP32 and task.accumulate == 1
        may = cell.model in task.topic.populates and _model(task) not in self._separate
        if not plain or not may:
            return ("", cell.id)
        settings = cell.settings_text
        return (cell.topic, cell.model, cell.loss, settings, str(task.budget), task.device)


def label(task: Task) -> str:
    """Return a task's name for messages: its cell's id, or how many of what train together."""
    if not isinstance(task, PopulationTask):
        return task.cell.id
    return f"{len(task.cells)} of {task.cell.topic}/{task.cell.model}-{task.cell.loss}"


def _model(task: Task) -> tuple[str, str]:
    return task.cell.topic, task.cell.model
