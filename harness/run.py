"""One run: selected cells through an executor into a store, then into tables and a page."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from harness import matrix, measure, parallel
from harness.cell import Budget, Cell, UsageError, fingerprint
from harness.execution import crowd
from harness.execution.local import LocalExecutor
from harness.execution.task import Task
from harness.record import Record
from harness.store import Store, write_atomically
from harness.topic import Topic

DECIDING = (
    *("data", "losses", "schedules", "parallel", "training", "metrics", "checkpoint", "estimators"),
    *("pixels", "games", "styles", "generator", "extractor", "fid"),
    *("environments", "rollouts", "population", "rows", "streams", "updates"),
)


def registered_topics(**options: Any) -> dict[str, Topic]:
    """The topics under the entry point ``harness.topics``, by name.

    options are set on every topic that has a field of that name; None leaves the default.
    """
    topics = {}
    for point in entry_points(group="harness.topics"):
        kind = point.load()
        fields = kind.__dataclass_fields__
        chosen = {k: v for k, v in options.items() if k in fields and v is not None}
        topics[kind.name] = kind(**chosen)
    return topics


@cache
def code_hash() -> str:
    """A hash over the modules that decide a cell's numbers."""
    sha = hashlib.sha256()
    folder = Path(__file__).parent
    for name in DECIDING:
        sha.update((folder / f"{name}.py").read_bytes())
    return sha.hexdigest()[:12]


def topic_hash(topic: Topic) -> str:
    """A hash over the file that defines a topic."""
    import inspect

    return hashlib.sha256(Path(inspect.getfile(type(topic))).read_bytes()).hexdigest()[:12]


@dataclass
class Run:
    """The cells of one invocation and the folder they fill.

    rerun: train cells again even if the folder has their records with the same fingerprint.
    population: the most cells that train as one; compile: whether their step is compiled then.
    report is called with one line after each finished cell.
    """

    folder: Path
    topics: Mapping[str, Topic]
    profile: str
    world_size: int = 2
    rerun: bool = False
    steps: int | None = None
    options: str = ""
    population: int = crowd.MOST
    compile: bool = False
    report: Callable[[str], None] = print
    records: dict[Cell, Record] = field(default_factory=dict)
    executor: LocalExecutor | None = None

    def __post_init__(self) -> None:
        self.store = Store(self.folder)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.environment = measure.environment(self.device)
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
            versions=versions,
        )

    def skip_reason(self, cell: Cell) -> str | None:
        return matrix.skip_reason(self.topics[cell.topic], cell, torch.cuda.device_count())

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
                tasks.append(self._task(cell))
        self.total = len(tasks)
        self.todo_s = sum(map(self._work_s, tasks))
        lone = [task for task in tasks if self._is_apart(task)]
        tasks = [task for task in tasks if not self._is_apart(task)]
        tasks = lone + crowd.group(tasks, self.population, self.compile)
        tasks.sort(key=lambda task: (-task.world_size, -self._work_s(task)))
        self.executor = self.executor or LocalExecutor([], self._finished)
        self.executor.waiting.extend(tasks)

    def predict(self, cell: Cell) -> float:
        """Expected wall seconds: this folder's earlier record of the cell, else the budget's."""
        earlier = self.store.read(cell)
        if earlier and earlier.budget == self.budget(cell) and "wall_s" in earlier.cost:
            return earlier.cost["wall_s"]
        return self.budget(cell).expected_s

    def _work_s(self, task: Task) -> float:
        return sum(self.predict(own.cell) * own.world_size for own in crowd.members(task))

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

    def _task(self, cell: Cell) -> Task:
        ranks = parallel.ranks(cell.parallel, self.world_size)
        topic = self.topics[cell.topic]
        return Task(topic, cell, self.budget(cell), self.folder, self.device, ranks)

    def _record(self, cell: Cell, outcome: dict[str, Any]) -> Record:
        topic = self.topics[cell.topic]
        return Record(
            cell=cell,
            fingerprint=self.fingerprint(cell),
            profile=self.profile,
            dataset=topic.dataset_id(),
            world_size=parallel.ranks(cell.parallel, self.world_size),
            command=f"python -m harness replay {cell.id} --profile {self.profile}{self.options}",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            budget=self.budget(cell),
            directions=dict(topic.directions),
            environment=self.environment,
            **outcome,
        )

    def _keep(self, record: Record) -> None:
        self.store.write(record)
        self.records[record.cell] = record

    def _finished(self, task: Task, outcome: dict[str, Any]) -> None:
        assert self.executor is not None
        found = crowd.outcomes(task, outcome)
        for own, values in found.items():
            self._keep(self._record(own.cell, values))
        if not found:
            self._part(task, outcome)
        elif note := outcome.get("note"):
            self.report(f"{crowd.name(task)} {note}")
        left = list(self.executor.waiting) + [gang.task for gang in self.executor.gangs]
        left_s = sum(map(self._work_s, left))
        spent = time.monotonic() - self.started_s
        done_s = max(self.todo_s - left_s, 1e-9)
        eta = spent * left_s / done_s
        number = self.total - sum(len(crowd.members(task)) for task in left)
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
            parted += [t for t in waiting if isinstance(t, crowd.Crowd) and self._is_apart(t)]
        for one in parted:
            if one is not task:
                waiting.remove(one)
            waiting.extendleft(reversed(crowd.members(one)))
            self.report(f"{crowd.name(one)} run one by one: {outcome['reason']}")

    def _is_apart(self, task: Task) -> bool:
        return (task.cell.topic, task.cell.model) in self.apart


def headline(record: Record) -> str:
    """The primary metric, or the reason there is none."""
    if record.metrics and not record.reason:
        name = next(iter(record.directions))
        return f"{name} {record.metrics[name]:.4g}"
    return record.reason


def _images(folder: Path, records: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    found = {r["id"]: folder / r["samples"]["grid"] for r in records if r.get("samples")}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def write_report(folder: Path) -> Path:
    """Tables and page from the records of a run. Raises UsageError if there are none."""
    import pandas as pd

    from harness import dashboard, tables

    store = Store(folder)
    records = [record.to_dict() for record in store]
    if not records:
        raise UsageError(f"{folder} holds no records: a run leaves them under {folder}/cells")
    found = tables.write(records, folder)
    benchmark = None
    if (folder / "benchmark.json").exists():
        loaded = json.loads((folder / "benchmark.json").read_text())
        benchmark = pd.json_normalize(loaded["benchmarks"])
    page = dashboard.render(
        found.cells,
        found.curves,
        found.summary,
        found.effects,
        benchmark,
        title=f"Decathlon: {folder.name}",
        images=_images(folder, records),
        improvement=found.improvement,
    )
    write_atomically(folder / "index.html", page.encode())
    return folder / "index.html"
