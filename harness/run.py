"""One run: selected cells through an executor into a store, then into tables and a page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness import matrix
from harness.axes import parallel
from harness.cell import Budget, Cell, UsageError, unknown
from harness.execution.local import LocalExecutor
from harness.files import write_atomically
from harness.fingerprint import code_hash, fingerprint, topic_hash
from harness.results.record import Record
from harness.results.store import Store
from harness.training.topic import Topic
from harness.trial import cost, population
from harness.trial.task import Task

if TYPE_CHECKING:
    from harness.execution.cluster.executor import ClusterExecutor

EXECUTORS = ("local", "ray")


def executor_class(name: str) -> type[LocalExecutor] | type[ClusterExecutor]:
    """One of EXECUTORS. Raises UsageError for another name, or where Ray is not installed."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if name == "local":
        return LocalExecutor
    try:
        from harness.execution.cluster.executor import ClusterExecutor
    except ModuleNotFoundError as error:
        raise UsageError(
            f"executor ray is an extra ({error}): pip install torch-decathlon[ray]"
        ) from None
    return ClusterExecutor


@dataclass
class Run:
    """The cells of one invocation and the folder they fill.

    rerun: train cells again even if the folder has their records with the same fingerprint.
    accumulate: equal parts that each rank takes a batch in. retries: how often a cell that fails
    or runs out of time goes on from its middle checkpoint, or from the start if it had none.
    report is called with one line after each finished cell. executor_kind: one of
    EXECUTORS. population: the most cells that train as one; compile: whether their step is
    compiled then.
    """

    folder: Path
    topics: Mapping[str, Topic]
    profile: str
    world_size: int = 2
    rerun: bool = False
    accumulate: int = 1
    retries: int = 0
    options: str = ""
    population: int = population.MOST
    compile: bool = False
    report: Callable[[str], None] = print
    records: dict[Cell, Record] = field(default_factory=dict)
    executor: LocalExecutor | ClusterExecutor | None = None
    executor_kind: str = "local"

    def __post_init__(self) -> None:
        self.store = Store(self.folder)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.environment = cost.environment(self.device)
        self.begun: dict[Cell, str] = {}
        self.total = 0
        self.apart: set[tuple[str, str]] = set()

    def budget(self, cell: Cell) -> Budget:
        return self.topics[cell.topic].budget(self.profile, cell.model)

    def fingerprint(self, cell: Cell) -> str:
        """Changes with the cell, its budget, data, code, versions or device."""
        topic = self.topics[cell.topic]
        versions = {k: self.environment[k] for k in ("torch", "device", "threads")}
        return fingerprint(
            cell=cell,
            budget=self.budget(cell),
            topic=topic,
            data=topic.dataset_id(),
            code=[code_hash(), topic_hash(topic)],
            world_size=parallel.ranks(cell.parallel, self.world_size),
            accumulate=self.accumulate,
            versions=versions,
        )

    def skip_reason(self, cell: Cell) -> str | None:
        topic = self.topics[cell.topic]
        reason = matrix.skip_reason(topic, cell, torch.cuda.device_count())
        parts = parallel.ranks(cell.parallel, self.world_size) * self.accumulate
        size = self.budget(cell).batch_size
        if reason is None and size % parts and cell.model not in topic.fits:
            reason = f"a batch of {size} does not divide into {parts} equal parts"
        return reason

    def done(self, cell: Cell) -> Record | None:
        """The record to reuse: trained to an end with the same fingerprint."""
        if self.rerun:
            return None
        record = self.store.read(cell)
        if record is None or record.fingerprint != self.fingerprint(cell):
            return None
        return record if record.status in ("done", "diverged") else None

    def start(self, cells: Iterable[Cell]) -> None:
        """Reuse what is done, record what is skipped, queue the rest: parallel cells first.

        May be called again: the processes are warm by then.
        """
        tasks = []
        self.store.tidy()
        self.started_s = time.monotonic()
        write_atomically(
            self.folder / "environment.json", json.dumps(self.environment, indent=1).encode()
        )
        for cell in dict.fromkeys(cells):
            if reason := self.skip_reason(cell):
                self._keep(self._record(cell, {"status": "skipped", "reason": reason}))
            elif record := self.done(cell):
                self.records[cell] = record
            else:
                tasks.append(self.task(cell))
        self.total = len(tasks)
        self.todo_s = sum(map(self._work_s, tasks))
        lone = [task for task in tasks if self._is_apart(task)]
        tasks = [task for task in tasks if not self._is_apart(task)]
        if self.executor_kind == "local":
            tasks = population.group(tasks, self.population, self.compile)
        tasks = lone + tasks
        tasks.sort(key=lambda task: (-task.world_size, -self._work_s(task)))
        if self.executor is None:
            self.executor = executor_class(self.executor_kind)([], self._finished)
        self.executor.add(tasks)

    def predict(self, cell: Cell) -> float:
        """Expected wall seconds: this folder's earlier record of the cell, else the budget's."""
        earlier = self.store.read(cell)
        if earlier and earlier.budget == self.budget(cell) and "wall_s" in earlier.cost:
            return earlier.cost["wall_s"]
        return self.budget(cell).expected_s

    def _work_s(self, task: Task) -> float:
        return sum(self.predict(own.cell) * own.world_size for own in population.members(task))

    def result(self, cell: Cell) -> Record:
        """The cell's record; works on the queue until it is there."""
        while cell not in self.records:
            if self.executor is None or not (self.executor.pump() or cell in self.records):
                raise RuntimeError(f"{cell.id} was never queued")
        return self.records[cell]

    def finish(self) -> None:
        """Run what is left of the queue."""
        while self.executor is not None and self.executor.pump():
            pass

    def close(self) -> None:
        if self.executor is not None:
            self.executor.close()

    def task(self, cell: Cell) -> Task:
        """What a worker needs to know of a cell of this run."""
        ranks = parallel.ranks(cell.parallel, self.world_size)
        topic = self.topics[cell.topic]
        budget = self.budget(cell)
        return Task(topic, cell, budget, self.folder, self.device, ranks, self.accumulate)

    def _record(self, cell: Cell, outcome: dict[str, Any]) -> Record:
        topic = self.topics[cell.topic]
        return Record(
            cell=cell,
            fingerprint=self.fingerprint(cell),
            profile=self.profile,
            dataset=topic.dataset_id(),
            world_size=parallel.ranks(cell.parallel, self.world_size),
            accumulate=self.accumulate,
            command=f"python -m harness replay {cell.id} --profile {self.profile}{self.options}",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            budget=self.budget(cell),
            directions=dict(topic.directions),
            alone=dict(topic.alone),
            environment=self.environment,
            **outcome,
        )

    def keep(self, cell: Cell, outcome: dict[str, Any]) -> Record:
        """Store what a cell left that was trained elsewhere, under torchrun."""
        self._keep(self._record(cell, outcome))
        return self.records[cell]

    def _keep(self, record: Record) -> None:
        self.store.write(record)
        self.records[record.cell] = record

    def _finished(self, task: Task, outcome: dict[str, Any]) -> None:
        assert self.executor is not None
        again = task.attempt < self.retries and not isinstance(task, population.Crowd)
        if outcome["status"] in ("failed", "timeout") and again:
            self.executor.waiting.append(replace(task, attempt=task.attempt + 1))
            follows = f"(attempt {task.attempt + 2} of {self.retries + 1} follows)"
            self.report(f"{task.cell.id} {outcome['status']} {outcome['reason']} {follows}")
            return
        found = population.outcomes(task, outcome)
        for own, values in found.items():
            self._keep(self._record(own.cell, values | {"attempts": own.attempt + 1}))
        if not found:
            self._part(task, outcome)
        elif note := outcome.get("note"):
            self.report(f"{population.name(task)} {note}")
        left = list(self.executor.waiting) + [gang.task for gang in self.executor.gangs]
        left_s = sum(map(self._work_s, left))
        spent = time.monotonic() - self.started_s
        done_s = max(self.todo_s - left_s, 1e-9)
        eta = spent * left_s / done_s
        number = self.total - sum(len(population.members(task)) for task in left)
        for own in found:
            record = self.records[own.cell]
            self.report(
                f"[{number}/{self.total}] {own.cell.id} {record.status} "
                f"{headline(record)} (about {eta:.0f} s left)"
            )

    def _part(self, task: Task, outcome: dict[str, Any]) -> None:
        """Queue a crowd's cells one by one; if it would not pay, those of its like as well."""
        assert self.executor is not None
        waiting, parted = self.executor.waiting, [task]
        if outcome["status"] == "apart":
            self.apart.add((task.cell.topic, task.cell.model))
            parted += [t for t in waiting if isinstance(t, population.Crowd) and self._is_apart(t)]
        for one in parted:
            if one is not task:
                waiting.remove(one)
            waiting.extendleft(reversed(population.members(one)))
            self.report(f"{population.name(one)} run one by one: {outcome['reason']}")

    def _is_apart(self, task: Task) -> bool:
        return (task.cell.topic, task.cell.model) in self.apart


def headline(record: Record) -> str:
    """The primary metric (the first that the model has), or the reason there is none."""
    if record.metrics and not record.reason:
        name = next(name for name in record.directions if name in record.metrics)
        return f"{name} {record.metrics[name]:.4g}"
    return record.reason
