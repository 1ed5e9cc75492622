"""Train selected cells with an executor and keep their records in a folder: one run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from harness.cell import FP32, Cell, Status, UsageError
from harness.conditions import BESIDE, Conditions
from harness.execution.executor import Executor
from harness.execution.kinds import executor_class
from harness.files import remove, write_atomically
from harness.progress import Progress, warning
from harness.results import bounds, outdated
from harness.results.lock import FolderLock
from harness.results.record import TRAINED, Record
from harness.results.store import Store
from harness.settings import values
from harness.trial import cost
from harness.trial.grouping import LARGEST, Grouping, label
from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.population import PopulationTask
from harness.trial.task import Task


@dataclass
class Run(Conditions):
    """One run of the harness: trains cells with an executor and keeps their records in a folder.

    Under the conditions that it inherits. rerun: train cells again even if the folder has their
    records with the same fingerprint. retries: how often a cell that fails or runs out of time goes
    on from its middle checkpoint, or from the start if it had none. population: the most cells that
    train as one; compile: whether their step is compiled then. report is called with a line after
    each finished cell; stand, if there is one, with where the run stands, as ``Progress`` says;
    each of sinks with every record, reused ones too, and the run: what it raises is reported, and
    costs nothing else.
    """

    rerun: bool = False
    retries: int = 0
    population: int = LARGEST
    compile: bool = False
    report: Callable[[str], None] = print
    stand: Callable[[int, int, str], None] | None = None
    sinks: Sequence[Callable[[Record, Run], None]] = ()
    records: dict[Cell, Record] = field(default_factory=dict)
    executor: Executor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.store = Store(self.folder)
        self._lock = FolderLock(self.folder)
        self._grouping = Grouping(self.population, self.compile)
        self._begun: dict[Cell, tuple[str, str]] = {}

    def done(self, cell: Cell) -> Record | None:
        """Return the cell's earlier record of the same fingerprint; None if it is to train."""
        return None if self.rerun else self.store.trained(cell, self.fingerprint(cell))

    def task(self, cell: Cell) -> Task:
        """Return the cell's task; its record will have the fingerprint that the cell has now.

        By the time that it is trained its code may have been edited.
        """
        self._begun[cell] = self.fingerprint(cell), self.setup(cell)
        return super().task(cell)

    def predict(self, cell: Cell) -> float:
        """Predict a cell's wall seconds: an earlier record's in this folder, else its budget's.

        These are taken as much longer as this machine's core is slower than theirs. On a GPU they
        are taken as they are, but for no less than its steps take to launch, unless many such cells
        train as one.
        """
        earlier = self.store.read(cell)
        if earlier and earlier.budget == self.budget(cell) and "wall_s" in earlier.cost:
            return earlier.cost["wall_s"]
        budget, topic = self.budget(cell), self.topic(cell)
        if self.place(cell) == "cpu":
            return budget.expected_s * cost.slowness()
        plain = (cell.parallel, cell.precision) == ("single", FP32)
        together = plain and cell.model in topic.populates
        launched_s = 0.0 if together else budget.steps * cost.LAUNCH_S
        return max(budget.expected_s, launched_s)

    def start(self, cells: Iterable[Cell]) -> str:
        """Reuse what is done, record what is skipped, queue the rest: parallel cells first.

        Returns in a line how many are of each kind. May be called again: the processes are warm by
        then.
        """
        cells = list(dict.fromkeys(cells))
        tasks: list[Task] = []
        reused = skipped = 0
        self._lock.acquire()
        self.store.tidy()
        now = outdated.setups(self.folder)
        reasons = {cell: self.skip_reason(cell) for cell in cells}
        for cell in [one for one in cells if not reasons[one]]:
            now.setdefault(cell.topic, {}).update(outdated.setup_of(self.setup(cell)))
        about = self.environment | {"project": list(self.project), "setups": now}
        write_atomically(self.folder / "environment.json", json.dumps(about, indent=1).encode())
        if not self.choosing:
            self.rates.leave_evidence([*self.records, *cells], self.folder)
        for cell in cells:
            if reason := reasons[cell]:
                self.keep(cell, Outcome(status=Status.SKIPPED, reason=reason))
                skipped += 1
            elif record := self.done(cell):
                self._has(record)
                reused += 1
            else:
                tasks.append(self.task(cell))
        every = reused + len(tasks)
        for line in self.store.set_aside:
            self.report(line)
        topics = dict.fromkeys(map(self.topic, cells))
        notes = [f"{topic.name}: {note}" for topic in topics for note in topic.data_notes()]
        notes += [f"{cell.topic}: {BESIDE}" for cell in cells if self.beside(cell)]
        notes += filter(None, map(self.untold, cells))
        for line in dict.fromkeys(notes):
            self.report(line)
        count = f"{len(tasks)}{_among([task.cell.topic for task in tasks])}"
        if self.executor is None:
            self.executor = executor_class(self.executor_kind, self.per_gpu)()
        left = [(cell, task.world_size) for task in self.executor.pending() for cell in task.cells]
        left += [(task.cell, task.world_size) for task in tasks]
        cell_s = {cell: self.predict(cell) * ranks for cell, ranks in left}
        if self.executor_kind == "local":
            tasks = self._grouping.group(tasks)
        tasks.sort(key=lambda task: (-task.world_size, -sum(cell_s[c] for c in task.cells)))
        wall_s = {cell: seconds / self.at_once(cell) for cell, seconds in cell_s.items()}
        self.progress = Progress(wall_s, lambda line: self.report(line), self.stand)
        self.executor.submit(tasks)
        told = f"cells to train: {count}; reused: {reused} of {every}; skipped: {skipped}"
        searches = self.choosing or self.profile == "race"
        return told if searches else told + warning(sum(wall_s.values()))

    def result(self, cell: Cell) -> Record:
        """Return the cell's record; works on the queue until it is there.

        Raises RuntimeError if the cell was never started.
        """
        while cell not in self.records:
            if not self.pump():
                raise RuntimeError(f"{cell.id} was never queued")
        return self.records[cell]

    def pump(self, timeout_s: float = 0.5) -> bool:
        """Take in tasks that have ended, waiting up to ``timeout_s``; False if none was left."""
        if self.executor is None or not self.executor.pending():
            return False
        for task, outcome in self.executor.pump(timeout_s):
            self._ended(task, outcome)
        self.progress.now(self.executor.pending(), self.executor.running())
        return True

    def finish(self) -> None:
        """Work on the queue until no task is left."""
        while self.pump():
            pass

    def lock(self) -> None:
        """Hold the folder, as ``start`` does. Raises UsageError if another run does."""
        self._lock.acquire()

    def end(self) -> None:
        """End the executor; cells in flight are lost. The folder is still this run's."""
        if self.executor is not None:
            executor, self.executor = self.executor, None
            executor.close()

    def close(self) -> None:
        """End the executor; cells in flight are lost. Another run may use the folder then."""
        try:
            self.end()
        finally:
            self._lock.release()

    def keep(self, cell: Cell, outcome: Outcome, attempts: int = 1) -> Record:
        """Write the record of a cell's outcome, and return it.

        Where nothing was saved, the final checkpoint of an earlier experiment goes. A cell that is
        skipped leaves what was trained before as it is.
        """
        topic = self.topic(cell)
        evaluation = {
            name: self._bounded(cell, name, value) for name, value in outcome.evaluation.items()
        }
        outcome = replace(outcome, evaluation=evaluation)
        begun = self._begun.pop(cell, None) or (self.fingerprint(cell), self.setup(cell))
        record = Record(
            cell=cell,
            fingerprint=begun[0],
            setup=begun[1],
            fitted=cell.model in topic.fits,
            profile=self.profile,
            dataset=topic.dataset_id(),
            data_notes=topic.data_notes(),
            untrainable=topic.untrainable.get(cell.loss, ""),
            world_size=self.ranks(cell),
            accumulate=self.accumulate,
            attempts=attempts,
            set_to=values(topic, self.settings.of_cell(cell)),
            command=self.command(cell),
            rate_used=self.rates.of(cell),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            budget=self.budget(cell),
            directions=dict(topic.directions),
            alone=dict(topic.alone),
            target=topic.goal(),
            environment=self.environment_of(cell),
            **outcome.record_fields(),
        )
        old = self.store.read(cell) if record.status is Status.SKIPPED else None
        if old and old.status in TRAINED:
            self.report(f"{cell.id} is skipped, and its earlier record stays")
            self.records[cell] = record
            return record
        try:
            self.store.write(record)
            if outcome.saved is None:
                remove(self.folder / "checkpoints" / cell.id / "final.pt")
        except OSError as error:
            kept = sum(1 for _ in self.store.cells.glob("*.json"))
            raise UsageError(
                f"{self.folder} cannot be written ({error.strerror or error}): its {kept} records "
                "are kept, and the next call goes on from them"
            ) from None
        self._has(record)
        return record

    def _bounded(self, cell: Cell, name: str, value: Any) -> Any:
        """Return what was measured, or why it is left out where a record cannot hold as much."""
        try:
            bounds.check({"evaluation": {name: value}})
        except ValueError as error:
            self.report(f"{cell.id}: {bounds.line(name)} is left out of its record: {error}")
            return f"left out: {error}"
        return value

    def _has(self, record: Record) -> None:
        """Take in a record that is in the folder, and tell the sinks of it if it is new to them."""
        known = self.records.get(record.cell)
        self.records[record.cell] = record
        new = known is None or known.status != record.status
        if known and record.status is not Status.SKIPPED:
            new |= (known.fingerprint, known.started) != (record.fingerprint, record.started)
        for sink in self.sinks if new else ():
            try:
                sink(record, self)
            except Exception as error:  # whatever another library raises
                name = bounds.line(f"{sink.__module__}.{getattr(sink, '__qualname__', repr(sink))}")
                why = bounds.line(f"{type(error).__name__}: {error}")
                self.report(f"warning: {name} has not taken {record.cell.id}: {why}")

    def _ended(self, task: Task, outcome: Outcome | PopulationOutcome) -> None:
        """Keep the records of a task's cells, or queue them again if they failed."""
        assert self.executor is not None
        if isinstance(task, PopulationTask):
            self._population_ended(task, outcome)
            return
        assert isinstance(outcome, Outcome)
        if outcome.failed and task.attempt < self.retries:
            self.executor.requeue([replace(task, attempt=task.attempt + 1)])
            follows = f"(attempt {task.attempt + 2} of {self.retries + 1} follows)"
            self.report(f"{task.cell.id} {outcome.status} {bounds.line(outcome.reason)} {follows}")
            return
        record = self.keep(task.cell, outcome, attempts=task.attempt + 1)
        self.progress.ended([record], self.executor.pending())

    def _population_ended(self, task: PopulationTask, outcome: Outcome | PopulationOutcome) -> None:
        """Keep the members' records; if the population failed or does not pay, queue members alone.

        If it does not pay, those of waiting populations of the model are queued so too.
        """
        assert self.executor is not None
        if isinstance(outcome, PopulationOutcome) and not outcome.separate:
            if outcome.note:
                self.report(f"{label(task)} {outcome.note}")
            records = [self.keep(own.cell, outcome.members[own.cell.id]) for own in task.tasks]
            self.progress.ended(records, self.executor.pending())
            return
        apart = [task]
        reason = outcome.reason if isinstance(outcome, Outcome) else outcome.separate
        if isinstance(outcome, PopulationOutcome):
            running = self.executor.running()  # those will say for themselves
            waiting = [other for other in self.executor.pending() if other not in running]
            apart = self._grouping.separate(task, waiting)
        for one in apart:
            self.report(f"{label(one)} run one by one: {bounds.line(reason)}")
        self.executor.requeue([own for one in apart for own in one.tasks], instead_of=apart)


def _among(topics: Sequence[str]) -> str:
    """Say how many cells of each topic there are, if they are of several: -k may find too many."""
    counts = Counter(topics)
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f" ({each})" if len(counts) > 1 else ""
