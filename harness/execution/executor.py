"""What every executor does: take tasks, run them where there is room, hand back outcomes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.task import Task

Ended = tuple[Task, Outcome | PopulationOutcome]


class Executor(Protocol):
    """Runs tasks and tells what became of each; nothing moves but by ``pump``."""

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks. Raises UsageError, none queued, if one can never run here."""

    def requeue(self, tasks: Iterable[Task], instead_of: Collection[Task] = ()) -> None:
        """Queue tasks ahead of all others, and drop the waiting ones that they replace."""

    def pending(self) -> list[Task]:
        """The tasks that wait or run."""

    def running(self) -> list[Task]:
        """The tasks that processes are at work on."""

    def pump(self, timeout_s: float = 0.5) -> list[Ended]:
        """Start what fits and wait for news, at most ``timeout_s``: the tasks that ended."""

    def call(self, function: Callable[[Task, int], Any], task: Task) -> Any:
        """Run function(task, rank) on every rank of a task, and return rank 0's value.

        Only while nothing else is pending. Raises RuntimeError with the reason if it fails.
        """

    def close(self) -> None:
        """Kill what still runs and remove temporary files. The cells in flight are lost."""
