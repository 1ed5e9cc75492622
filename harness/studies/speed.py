"""Speed study: training steps timed in turn with fixed pieces of work, in several fresh processes.

A step's time is held against that of two yardsticks, many small operations and few large ones, for
what slows the machine down, such as its clock or a neighbour, slows them as well. Where a process's
memory happens to lie makes its steps some percent faster or slower for as long as it lives: more
rounds do not show that, more processes do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from harness.results.columns import STUDIES
from harness.runs import Run
from harness.studies.study import keep, own_executor, task_of
from harness.trial import cost
from harness.trial.device import device_of
from harness.trial.task import Task, training_of

PROCESSES = 6
ROUNDS = 12
LONG_S = 0.015  # of one round at least; short work is done several times

Times = Callable[[Task, int], list[dict[str, Any]]]


def measure(run: Run, topics: Collection[str] | None = None) -> pd.DataFrame:
    """Time topics' recipes in PROCESSES fresh processes, and keep that in ``speed.csv``.

    topics: names of the run's, by default all: they take turns in each process. Of each topic the
    first model that trains in steps. Columns: topic, model, process, round, and milliseconds:
    step_ms, and of the yardsticks small_ms and large_ms. Raises RuntimeError, naming the topic, if
    a training raises, hangs or its process dies.
    """
    tasks = [task for task in tasks_of(run) if topics is None or task.cell.topic in topics]
    run.report(f"speed: {len(tasks)} recipes in each of {PROCESSES} processes, one after another")
    rows = []
    for process in range(PROCESSES):
        begun = time.monotonic()
        rows += [{**row, "process": process} for row in in_a_fresh_process(tasks, times)]
        took_s = time.monotonic() - begun
        run.report(f"speed: process {process + 1} of {PROCESSES} took {took_s:.0f} s")
    for task in tasks:
        keep(run, "speed", task, [row for row in rows if row["topic"] == task.cell.topic])
    return pd.DataFrame(rows, columns=list(STUDIES["speed"]))


def tasks_of(run: Run) -> list[Task]:
    """Return the task of each topic's first model that trains in steps, at the run's rates."""
    tasks = []
    for name, topic in sorted(run.topics.items()):
        for model in [model for model in topic.models if model not in topic.fits][:1]:
            task = task_of(run, name, model)
            tasks.append(replace(task, rate=run.rates.of(task.cell)))
    return tasks


def in_a_fresh_process(tasks: Sequence[Task], function: Times) -> list[dict[str, Any]]:
    """Time recipes one after another in one new interpreter, each by ``function``.

    Returns a row for each round of each. Raises RuntimeError, naming the topic, if one fails.
    """
    rows = []
    with own_executor(fresh=True) as executor:
        for task in tasks:
            about = {"topic": task.cell.topic, "model": task.cell.model}
            try:
                found = executor.call(function, task)
            except RuntimeError as error:
                name = "/".join(about.values())
                raise RuntimeError(f"the speed of {name} cannot be measured: {error}") from None
            rows += [about | row for row in found]
    return rows


def times(task: Task, rank: int) -> list[dict[str, Any]]:
    """Time a recipe's steps and the yardsticks in ROUNDS turns, in this process: a row a round."""
    device = device_of(task, rank)
    works: dict[str, Callable[[int], float]] = {
        "step_ms": _Steps(task, device),
        "small_ms": partial(_seconds, _small(device)),
        "large_ms": partial(_seconds, _large(device)),
    }
    counts = {name: _long_enough(work) for name, work in works.items()}
    return [
        {"round": number} | {name: 1e3 * work(counts[name]) for name, work in works.items()}
        for number in range(ROUNDS)
    ]


class _Steps:
    """A recipe's training steps; it begins anew where the steps of its budget are used up."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self._task, self._device = task, device
        self._begin()

    def __call__(self, count: int) -> float:
        """Return the seconds of a step, as a mean over ``count`` or as many as its budget has."""
        count = min(count, self._task.budget.steps)
        if self._training.step + count > self._task.budget.steps:
            self._begin()
        return _seconds(self._step, count)

    def _begin(self) -> None:
        self._training = training_of(self._task, self._device, 0)
        for network in self._training.networks.values():
            network.train()

    def _step(self) -> None:
        self._training.advance()
        cost.synchronise(self._device)


def _small(device: torch.device) -> Callable[[], None]:
    """Return the yardstick of many small operations: a tiny network's step, all of it overhead."""
    layers = [layer for _ in range(4) for layer in (nn.Linear(16, 16), nn.Tanh())]
    network = nn.Sequential(*layers).to(device)
    optimizer = torch.optim.Adam(network.parameters())
    x_BC = torch.ones(8, 16, device=device)

    def work() -> None:
        optimizer.zero_grad()
        network(x_BC).square().mean().backward()
        optimizer.step()
        cost.synchronise(device)

    return work


def _large(device: torch.device) -> Callable[[], None]:
    """Return the yardstick of few large operations: matrix products, and a walk through memory.

    It allocates nothing: how long that takes depends on what the process has freed before.
    """
    a_NN, product_NN = torch.ones(2, 256, 256, device=device)
    far = torch.ones(2_000_000, device=device)  # 8 MB, more than a core's own caches

    def work() -> None:
        for _ in range(4):
            torch.mm(a_NN, a_NN, out=product_NN)
        far.mul_(0.5).add_(0.5)
        cost.synchronise(device)

    return work


def _long_enough(work: Callable[[int], float]) -> int:
    """Return how often to do some work so that it takes LONG_S, after warming it up."""
    work(3)
    return max(1, round(LONG_S / max(1e-6, work(2))))


def _seconds(work: Callable[[], None], count: int) -> float:
    """Return the seconds of a piece of work, as a mean over ``count``, with a core to itself."""
    begun, waited_s = time.perf_counter(), _waited_s()
    for _ in range(count):
        work()
    waited_s = _waited_s() - waited_s  # inside of what is timed, or it could be more than that
    return (time.perf_counter() - begun - waited_s) / count


def _waited_s() -> float:
    """Return the seconds that this thread has waited for a core, which others had.

    0 where the system does not tell: Linux does.
    """
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
