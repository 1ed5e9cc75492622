"""The interface of executors: queue tasks, run them where there is room, return the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.task import Task

Ended = tuple[Task, Outcome | PopulationOutcome]


class Executor(Protocol):
    """Runs queued tasks in other processes; starts and ends them only while ``pump`` is called."""

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks to run. Raises UsageError, and queues none, if one can never run here."""

    def requeue(self, tasks: Iterable[Task], instead_of: Collection[Task] = ()) -> None:
        """Queue tasks ahead of all others, and drop the queued tasks ``instead_of``."""

    def pending(self) -> list[Task]:
        """Return the tasks that are queued or running."""

    def running(self) -> list[Task]:
        """Return the tasks that processes are working on."""

    def pump(self, timeout_s: float = 0.5) -> list[Ended]:
        """Start the tasks that fit, wait at most ``timeout_s`` for news, return ended tasks."""

    def call(self, function: Callable[[Task, int], Any], task: Task) -> Any:
        """Run ``function(task, rank)`` on every rank of a task, and return rank 0's value.

        Only while nothing else is pending. Raises RuntimeError with the reason if it fails.
        """

    def close(self) -> None:
        """Kill running processes and remove temporary files; tasks that have not ended are lost."""
