"""What every executor does: take tasks, run them where there is room, hand back outcomes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.task import Task

Ended = tuple[Task, Outcome | PopulationOutcome]


class Executor(Protocol):
    """Runs tasks. Nothing moves by itself: ``pump`` moves everything on."""

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue them. Raises UsageError, none queued, if one can never run here."""

    def requeue(self, tasks: Iterable[Task], instead_of: Collection[Task] = ()) -> None:
        """Queue them ahead of all others, in the place of waiting ones that are not to run."""

    def pending(self) -> list[Task]:
        """The tasks that wait or run."""

    def pump(self, timeout_s: float = 0.5) -> list[Ended]:
        """Start what fits, wait for news at most ``timeout_s``; the tasks that ended by it."""

    def call(self, function: Callable[[Task, int], Any], task: Task) -> Any:
        """Run function(task, rank) on every rank of a task; rank 0's value.

        Only while nothing else is pending. Raises RuntimeError with the reason if it fails.
        """

    def close(self) -> None:
        """Kill what still runs and remove temporary files. The cells in flight are lost."""
