"""What ranks give beside a run's cells: parity, scaling and resharding of a recipe, as tables.

All are for a run whose cells are trained, alone on this machine, and leave a CSV in its folder,
which the page shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd

from harness.cell import unknown
from harness.execution import audit
from harness.execution import resharding as reshards
from harness.execution import scaling as scales
from harness.execution.local import LocalExecutor
from harness.execution.task import Task
from harness.matrix import recipes
from harness.parallel import NAMES, is_distributed
from harness.run import Run
from harness.store import write_atomically


def scaling(run: Run, topic: str, model: str) -> pd.DataFrame:
    """``scaling.table`` of a model's recipe at 2, 4, ... ranks up to the run's world size."""
    sizes = [2**k for k in range(1, run.world_size.bit_length()) if 2**k <= run.world_size]
    task = _task(run, topic, model)
    with _executor() as executor:
        return _keep(run, "scaling", task, scales.table(executor, task, sizes))


def parity(run: Run, topic: str) -> pd.DataFrame:
    """``audit.parity`` of the first model's recipe in every configuration that applies.

    difference: the largest relative one from single's first losses and gradient at the same global
    batch; equal: empty where a configuration is inexact by design.
    """
    own = run.topics[topic]
    model = next(model for model in own.models if model not in own.fits)
    task, rows = _task(run, topic, model), []
    with _executor() as executor:
        expected = executor.call(audit.first_steps, task)
        for name in filter(is_distributed, NAMES):
            cell = replace(task.cell, parallel=name)
            if run.skip_reason(cell) is None:
                there = replace(task, cell=cell, world_size=run.world_size)
                got = executor.call(audit.first_steps, there)
                found = audit.parity(expected, got, name)
                place = {"topic": topic, "model": model, "parallel": name, "ranks": run.world_size}
                rows.append(place | found)
    return _keep(run, "parity", task, rows)


def resharding(run: Run, topic: str, model: str) -> pd.DataFrame:
    """``resharding.grid`` of a model's recipe: each of single, ddp, zero1 and fsdp to each."""
    task = _task(run, topic, model)
    with _executor() as executor:
        return _keep(run, "resharding", task, reshards.grid(executor, task))


def _task(run: Run, topic: str, model: str) -> Task:
    if topic not in run.topics:
        raise unknown("topic", topic, run.topics)
    cells = {cell.model: cell for cell in recipes(run.topics[topic])}
    if model not in cells:
        raise unknown("model", model, cells)
    return Task(run.topics[topic], cells[model], run.budget(cells[model]), run.folder, run.device)


@contextmanager
def _executor() -> Iterator[LocalExecutor]:
    executor = LocalExecutor([], lambda *_: None)
    try:
        yield executor
    finally:
        executor.close()


def _keep(run: Run, name: str, task: Task, rows: list[dict]) -> pd.DataFrame:
    """Rows of other models stay in the file."""
    path, found = run.folder / f"{name}.csv", pd.DataFrame(rows)
    kept = found
    if path.exists():
        old = pd.read_csv(path)
        other = (old["topic"] != task.cell.topic) | (old["model"] != task.cell.model)
        kept = pd.concat([old[other], found], ignore_index=True)
    write_atomically(path, kept.to_csv(index=False, lineterminator="\n").encode())
    return found
