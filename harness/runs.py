"""Train selected cells with an executor and keep their records in a folder: one run."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import matrix
from harness.axes import parallel, registry
from harness.cell import FP32, Budget, Cell, Status, UsageError
from harness.execution.executor import Executor
from harness.execution.kinds import executor_class
from harness.files import write_atomically
from harness.fingerprint import code_hash, fingerprint, topic_hash
from harness.progress import Progress, warning
from harness.rates import Rates
from harness.results import bounds
from harness.results.lock import FolderLock
from harness.results.record import Record
from harness.results.store import Store
from harness.settings import Settings, set_topic, values
from harness.training.topic import Topic
from harness.trial import cost, device
from harness.trial.grouping import LARGEST, Grouping, label
from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.population import PopulationTask
from harness.trial.task import Task

SAME_BUDGETS = {"race": "quick"}  # a profile that has those of another


@dataclass
class Run:
    """One run of the harness: trains cells with an executor and keeps their records in a folder.

    rerun: train cells again even if the folder has their records with the same fingerprint.
    accumulate: equal parts that each rank takes a batch in. retries: how often a cell that fails or
    runs out of time goes on from its middle checkpoint, or from the start if it had none. options:
    what ``replay`` must be told to train a cell again. project: what pytest was told to collect, so
    that ``replay`` finds its conftests. executor_kind: one of EXECUTORS. population: the most cells
    that train as one; compile: whether their step is compiled then. timeout: seconds of wall time
    after which a cell is given up, None if only standing still is a reason. share: the part of its
    profile's steps that a training takes, 1 in so many. choosing: cells are only validated, to
    choose by: nothing is reported, saved or audited. rates: those that cells without one of their
    own train at. settings: what topics, which have the fixed ones already, and budgets are set to.
    device: cpu or cuda, empty: a GPU where there is one. per_gpu: trainings that share one. report
    is called with a line after each finished cell; stand, if there is one, with where the run
    stands, as ``Progress`` says; each of sinks with every record, reused ones too, and the run:
    what it raises is reported, and costs nothing else. own: the names of topics and of
    axes' values that only this process knows, so that no command can train their cells again.
    Raises UsageError for a device that is not there.
    """

    folder: Path
    topics: Mapping[str, Topic]
    profile: str
    world_size: int = 2
    rerun: bool = False
    accumulate: int = 1
    retries: int = 0
    options: str = ""
    project: Sequence[str] = ()
    population: int = LARGEST
    compile: bool = False
    timeout: float | None = None
    rates: Rates = field(default_factory=Rates)
    settings: Settings = field(default_factory=Settings)
    share: int = 1
    choosing: bool = False
    report: Callable[[str], None] = print
    stand: Callable[[int, int, str], None] | None = None
    sinks: Sequence[Callable[[Record, Run], None]] = ()
    own: Collection[str] = ()
    device: str = ""
    per_gpu: int = 1
    records: dict[Cell, Record] = field(default_factory=dict)
    executor: Executor | None = None
    executor_kind: str = "local"

    def __post_init__(self) -> None:
        self.store = Store(self.folder)
        self._lock = FolderLock(self.folder)
        self.device = device.choose(self.device or None)
        self.gpus = device.gpus(self.device)
        if self.per_gpu > 1 and not self.gpus:
            raise UsageError(f"per gpu {self.per_gpu}: there is no GPU here for trainings to share")
        self.environment = cost.environment(self.device)
        self._cpu = self.environment if self.device == "cpu" else cost.environment("cpu")
        if self.gpus:
            self.environment["per_gpu"] = self.per_gpu
        self._grouping = Grouping(self.population, self.compile)
        self._set: dict[tuple[str, tuple[tuple[str, str], ...]], Topic] = {}

    def topic(self, cell: Cell) -> Topic:
        """Return the cell's topic, with the cell's settings. Raises UsageError for wrong ones."""
        key = (cell.topic, cell.settings)
        if key not in self._set:
            self._set[key] = set_topic(self.topics[cell.topic], cell.settings)
        return self._set[key]

    def budget(self, cell: Cell) -> Budget:
        """Return the cell's budget in this run's profile, as it is set, or its share of that."""
        profile, topic = SAME_BUDGETS.get(self.profile, self.profile), self.topic(cell)
        whole = self.settings.budget(topic, cell, topic.budget(profile, cell.model))
        steps = max(1, round(whole.steps / self.share))
        return replace(whole, steps=steps, expected_s=whole.expected_s / self.share)

    def fingerprint(self, cell: Cell) -> str:
        """Return a hash that changes with the cell, its budget, data, code, versions or device."""
        topic = self.topic(cell)
        own = registry.used(cell, self._optimizers(cell))
        return fingerprint(
            cell=cell,
            budget=self.budget(cell),
            topic=topic,
            data=topic.dataset_id(),
            code=[code_hash(), topic_hash(topic, own)],
            own=own,
            rate=self.rates.of(cell),
            choosing=self.choosing,
            world_size=self.ranks(cell),
            accumulate=self.accumulate,
            versions={name: self._environment_of(cell).get(name) for name in cost.DECIDING},
        )

    def _environment_of(self, cell: Cell) -> dict[str, Any]:
        """Return what the cell is trained with: scikit-learn's ``fit`` uses no GPU."""
        return self._cpu if cell.model in self.topic(cell).fits else self.environment

    def _optimizers(self, cell: Cell) -> set[str]:
        """Return the kinds of a cell's players' optimizers, if a project brings any."""
        topic = self.topic(cell)
        if not registry.OPTIMIZERS.own or cell.model in topic.fits or self.skip_reason(cell):
            return set()
        return {player.optimizer.kind for player in topic.players(cell)}

    def ranks(self, cell: Cell) -> int:
        """Return how many processes train the cell."""
        return parallel.ranks(cell.parallel, self.world_size)

    def _ranks_here(self, cell: Cell) -> int:
        """Return how many of a cell's ranks share this machine's GPUs, if any do.

        Ray gives each a GPU, of this machine or another; torchrun says how many it started here.
        """
        if self.executor_kind == "ray":
            return 1
        ranks = self.ranks(cell)
        return min(ranks, int(os.environ.get("LOCAL_WORLD_SIZE", ranks)))

    @property
    def places(self) -> int:
        """How many processes train at a time: as many as cores, or as the GPUs may have."""
        return min(cost.cores(), self.gpus * self.per_gpu or cost.cores())

    def skip_reason(self, cell: Cell) -> str | None:
        """Return why the cell would measure nothing in this run; None if it is worth a training."""
        topic = self.topic(cell)
        ranks = self.ranks(cell), self._ranks_here(cell)
        reason = matrix.skip_reason(topic, cell, self.gpus, *ranks)
        parts = parallel.parts(cell.parallel, self.ranks(cell)) * self.accumulate
        size = self.budget(cell).batch_size
        if reason is None and size % parts and cell.model not in topic.fits:
            reason = f"a batch of {size} does not divide into {parts} equal parts"
        if reason is None and self.accumulate > 1 and cell.model in topic.undivided:
            reason = (
                f"{cell.model}'s gradient is no mean over samples: it needs the batch undivided"
            )
        return reason

    def done(self, cell: Cell) -> Record | None:
        """Return the cell's earlier record of the same fingerprint; None if it is to train."""
        return None if self.rerun else self.store.trained(cell, self.fingerprint(cell))

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
        if not self.gpus or cell.model in topic.fits:
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
        about = self.environment | {"project": list(self.project)}
        write_atomically(self.folder / "environment.json", json.dumps(about, indent=1).encode())
        if not self.choosing:
            self.rates.leave_evidence([*self.records, *cells], self.folder)
        for cell in cells:
            if reason := self.skip_reason(cell):
                self.keep(cell, Outcome(status=Status.SKIPPED, reason=reason))
                skipped += 1
            elif record := self.done(cell):
                self._has(record)
                reused += 1
            else:
                tasks.append(self.task(cell))
        for line in self.store.set_aside:
            self.report(line)
        topics = dict.fromkeys(map(self.topic, cells))
        notes = [f"{topic.name}: {note}" for topic in topics for note in topic.data_notes()]
        for line in dict.fromkeys(notes):
            self.report(line)
        count = len(tasks)
        if self.executor is None:
            self.executor = executor_class(self.executor_kind, self.per_gpu)()
        left = [(cell, task.world_size) for task in self.executor.pending() for cell in task.cells]
        left += [(task.cell, task.world_size) for task in tasks]
        cell_s = {cell: self.predict(cell) * ranks for cell, ranks in left}
        if self.executor_kind == "local":
            tasks = self._grouping.group(tasks)
        tasks.sort(key=lambda task: (-task.world_size, -sum(cell_s[c] for c in task.cells)))
        self.progress = Progress(cell_s, lambda line: self.report(line), self.stand)
        self.executor.submit(tasks)
        told = f"cells to train: {count}; reused: {reused} of {reused + count}; skipped: {skipped}"
        searches = self.choosing or self.profile == "race"
        return told if searches else told + warning(sum(cell_s.values()) / self.places)

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

    def close(self) -> None:
        """End the executor; cells in flight are lost. Another run may use the folder then."""
        if self.executor is not None:
            self.executor.close()
        self._lock.release()

    def task(self, cell: Cell) -> Task:
        """Return the task by which a process is told of a cell of this run."""
        ranks = self.ranks(cell)
        topic = self.topic(cell)
        budget = self.budget(cell)
        place = "cpu" if cell.model in topic.fits else self.device
        where = (self.folder, place, ranks, self.accumulate)
        return Task(
            topic,
            cell,
            budget,
            *where,
            rate=self.rates.of(cell),
            per_gpu=self.per_gpu,
            choosing=self.choosing,
            limit_s=self.timeout,
        )

    def keep(self, cell: Cell, outcome: Outcome, attempts: int = 1) -> Record:
        """Write the record of a cell's outcome, and return it."""
        topic = self.topic(cell)
        record = Record(
            cell=cell,
            fingerprint=self.fingerprint(cell),
            fitted=cell.model in topic.fits,
            profile=self.profile,
            dataset=topic.dataset_id(),
            data_notes=topic.data_notes(),
            untrainable=topic.untrainable.get(cell.loss, ""),
            world_size=self.ranks(cell),
            accumulate=self.accumulate,
            attempts=attempts,
            set_to=values(topic, self.settings.of_cell(cell)),
            command=self._command(cell),
            rate_used=self.rates.of(cell),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            budget=self.budget(cell),
            directions=dict(topic.directions),
            alone=dict(topic.alone),
            target=topic.goal(),
            environment=self._environment_of(cell),
            **outcome.record_fields(),
        )
        try:
            self.store.write(record)
        except OSError as error:
            kept = sum(1 for _ in self.store.cells.glob("*.json"))
            raise UsageError(
                f"{self.folder} cannot be written ({error.strerror or error}): its {kept} records "
                "are kept, and the next call goes on from them"
            ) from None
        self._has(record)
        return record

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
                name = f"{sink.__module__}.{sink.__qualname__}"
                why = bounds.line(f"{type(error).__name__}: {error}")
                self.report(f"warning: {name} has not taken {record.cell.id}: {why}")

    def _command(self, cell: Cell) -> str:
        """Return the command that trains a cell of this run again, from the present folder.

        Empty if there is none.
        """
        if {cell.topic, cell.loss, cell.schedule, cell.parallel} & {*self.own}:
            return ""
        inside = self.folder.absolute().is_relative_to(Path.cwd())
        folder = os.path.relpath(self.folder) if inside else str(self.folder.absolute())
        where = f"--profile {self.profile} --run-dir {shlex.quote(folder)}"
        told = self.options + self.settings.arguments(cell.topic)
        return f"python -m harness replay {cell.id} {where}{told}"

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
