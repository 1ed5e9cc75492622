"""What the studies share: a model's default task, an executor, a CSV file in the run's folder.

A study is for a run whose cells are trained, alone on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd

from harness.cell import unknown
from harness.execution.local import LocalExecutor
from harness.matrix import recipes
from harness.results import side_files
from harness.results.columns import STUDIES
from harness.runs import Run
from harness.trial.task import Task


def task_of(run: Run, topic: str, model: str) -> Task:
    """Return the task of a model's recipe, its default loss and schedule without parallelism.

    Raises UsageError for an unknown topic or model.
    """
    if topic not in run.topics:
        raise unknown("topic", topic, run.topics)
    cells = {cell.model: cell for cell in recipes(run.topics[topic])}
    if model not in cells:
        raise unknown("model", model, cells)
    cell = cells[model]
    return Task(run.topics[topic], cell, run.budget(cell), run.folder, run.place(cell))


@contextmanager
def own_executor(fresh: bool = False) -> Iterator[LocalExecutor]:
    """Yield a local executor on all cores, closed after the block; nothing else should run.

    fresh: its processes are interpreters of their own, and no forks.
    """
    executor = LocalExecutor(fresh=fresh)
    try:
        yield executor
    finally:
        executor.close()


def keep(run: Run, name: str, task: Task, rows: list[dict]) -> pd.DataFrame:
    """Write a study's rows to its CSV file, where other models' rows stay, and return them."""
    found = pd.DataFrame(rows, columns=None if rows else list(STUDIES[name]))
    about = {"topic": task.cell.topic, "model": task.cell.model}
    side_files.keep(run.folder, name, found, about, run.report)
    return found
