"""Executor that runs tasks in warm processes on this machine, each for as long as it advances.

Never more processes work than there are cores, unless a single task has more ranks; and a GPU is
one task's at a time, unless more may share it. A process that dies, hangs or raises costs its own
task only.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from harness.axes import parallel
from harness.execution import failures
from harness.execution.executor import Ended
from harness.execution.patience import given_up
from harness.execution.pool import GRACE_S, WorkerPool, WorkerProcess, kill
from harness.execution.process import Function, Raised, Returned, packed
from harness.trial import cost, population
from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.task import Task

LOOK_S = 0.5  # between looks at whether trials advance
ECHO_S = 1.0  # a peer may report a rank's death this long before its process ends


@dataclass(eq=False)
class Gang:
    """The processes working on one task, one per rank.

    role: what they are used for (train, audit, call). begun: when the task's training was, in
    ``time.monotonic`` seconds. meeting: the file at which the ranks find each other. gpus: those
    that they compute on. trained: the outcome whose checkpoints are audited.
    """

    task: Task
    role: str
    begun: float
    meeting: Path
    workers: list[WorkerProcess]
    gpus: tuple[int, ...] = ()
    trained: Outcome | PopulationOutcome = field(default_factory=Outcome)


class LocalExecutor:
    """Executor that runs tasks in single-threaded processes on this machine.

    cores: how many processes work at a time, by default one per core. fresh: they are interpreters
    of their own, and no forks. per_gpu: how many tasks may share a GPU.
    """

    def __init__(self, cores: int | None = None, fresh: bool = False, per_gpu: int = 1) -> None:
        self.cores, self.per_gpu = cores or cost.cores(), per_gpu
        self._pool = WorkerPool(fresh=fresh)
        self._waiting: deque[Task] = deque()
        self._gangs: list[Gang] = []
        self._ended: list[Ended] = []
        self._called: Returned | Outcome | None = None

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks to run."""
        self._waiting.extend(tasks)

    def requeue(self, tasks: Iterable[Task], instead_of: Collection[Task] = ()) -> None:
        """Queue tasks ahead of all others, and drop the queued tasks ``instead_of``."""
        kept = [task for task in self._waiting if task not in instead_of]
        self._waiting = deque([*tasks, *kept])

    def pending(self) -> list[Task]:
        """Return the tasks that are queued or running."""
        return [*self._waiting, *(gang.task for gang in self._gangs)]

    def running(self) -> list[Task]:
        """Return the tasks that processes are working on."""
        return [gang.task for gang in self._gangs]

    def pump(self, timeout_s: float = 0.5) -> list[Ended]:
        """Start the tasks that fit, wait at most ``timeout_s`` for news, return ended tasks."""
        while task := self._next():
            self._waiting.remove(task)
            if not task.attempt:
                with contextlib.suppress(OSError):  # the training says so, if it comes that far
                    task.forget()
            self._start(task, "train", population.train, self._gpus(task) or ())
        if self._gangs:
            self._listen(timeout_s)
        if not any(task.device == "cuda" for task in self.pending()):
            self._pool.end_idle()
        ended, self._ended = self._ended, []
        return ended

    def call(self, function: Function, task: Task) -> Any:
        """Run ``function(task, rank)`` on every rank of a task, and return rank 0's value.

        Only while nothing else is pending. Raises RuntimeError with the reason if it fails.
        """
        if self.pending():
            raise RuntimeError("call waits for no other tasks: pump until nothing is pending")
        self._called = None
        self._start(task, "call", function, self._gpus(task) or ())
        while self._gangs:
            self._listen(0.5)
        if not isinstance(self._called, Returned):
            assert self._called is not None
            raise RuntimeError(f"{self._called.reason}\n{self._called.traceback}")
        return self._called.value

    def close(self) -> None:
        """Kill running processes and remove temporary files; tasks that have not ended are lost."""
        self._waiting.clear()
        kill([worker for gang in self._gangs for worker in gang.workers])
        self._gangs.clear()
        self._pool.close()

    def _free(self) -> int:
        """Return how many cores no process is working on."""
        return self.cores - sum(len(gang.workers) for gang in self._gangs)

    def _next(self) -> Task | None:
        """Return the queued task to start now: one for a GPU that is free, else one without.

        But first of all a first one with several ranks on the CPU, for which the cores must be free
        at once.
        """
        free = self._free()
        if not self._waiting or free < min(self._waiting[0].world_size, self.cores):
            return None
        first = self._waiting[0]
        if first.world_size > 1 and first.device != "cuda":
            return first
        room = max(free, first.world_size)
        there = next((task for task in self._waiting if task.device == "cuda"), None)
        if there and there.world_size <= room and self._gpus(there) is not None:
            return there
        others = (task for task in self._waiting if task.device != "cuda")
        return next((task for task in others if task.world_size <= room), None)

    def _gpus(self, task: Task) -> tuple[int, ...] | None:
        """Return the GPUs for a task, least busy first; empty: it needs none, None: none is free.

        Each rank gets one of its own if there are as many. dp gets all, in their order.
        """
        if task.device != "cuda":
            return ()
        there = torch.cuda.device_count()
        busy = Counter(gpu for gang in self._gangs for gpu in gang.gpus)
        free = [gpu for gpu in range(there) if busy[gpu] < self.per_gpu]
        if task.cell.parallel == "dp":
            return tuple(free) if len(free) == there else None
        wanted = min(task.world_size, there)
        return tuple(sorted(free, key=busy.__getitem__)[:wanted]) if len(free) >= wanted else None

    def _start(self, task: Task, role: str, function: Function, gpus: tuple[int, ...]) -> Gang:
        """Start ``function(task, rank)`` in one process per rank."""
        meeting = self._pool.folder / uuid.uuid4().hex
        distributed = parallel.is_distributed(task.cell.parallel)
        ranks = range(task.world_size) if distributed else [None]
        theirs = [gpus[(rank or 0) % len(gpus)] if gpus else None for rank in ranks]
        taken = zip(ranks, theirs, strict=True)
        workers = [self._pool.take(role, rank, gpu) for rank, gpu in taken]
        work = packed(function, replace(task, gpus=gpus))
        for rank, worker in enumerate(workers):
            worker.begin(work, rank, f"file://{meeting}")
        self._gangs.append(Gang(task, role, time.monotonic(), meeting, workers, gpus))
        return self._gangs[-1]

    def _listen(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for answers and act on them; give up what does not advance."""
        watched = {w.pipe: gang for gang in self._gangs for w in gang.workers if w.answer is None}
        for pipe in connection.wait(list(watched), min(timeout_s, LOOK_S)):
            self._hear(watched[pipe], pipe)  # type: ignore[index,arg-type]
        for gang in list(self._gangs):
            pulses = [worker.pulse() for worker in gang.workers]
            if reason := given_up(gang.task, pulses, time.monotonic() - gang.begun):
                pids = [worker.process.pid for worker in gang.workers]
                stacks = [worker.stacks for worker in gang.workers]
                steps = [pulse.step for pulse in pulses]
                self._fail(gang, failures.hung(pids, stacks, reason, steps=steps))

    def _hear(self, gang: Gang, pipe: connection.Connection) -> None:
        """Receive a process's answer; end its gang if it failed or was the last to answer."""
        if gang not in self._gangs:
            return
        rank, worker = next((r, w) for r, w in enumerate(gang.workers) if w.pipe is pipe)
        try:
            worker.answer = pipe.recv()
        except (EOFError, OSError):
            worker.process.join(GRACE_S)
            self._fail(gang, failures.died(rank, worker.process.exitcode, worker.stacks))
            return
        if isinstance(worker.answer, Raised):
            self._fail(gang, _first_failure(gang.workers))
        elif all(worker.answer is not None for worker in gang.workers):
            first = gang.workers[0].answer
            assert isinstance(first, Returned)
            self._done(gang, first)

    def _done(self, gang: Gang, answer: Returned) -> None:
        """Return a gang's processes to the pool; audit what it trained, or keep its outcome."""
        self._leave(gang)
        self._pool.give_back(gang.role, gang.workers)
        if gang.role == "call":
            self._called = answer
        elif gang.role == "audit":
            self._ended.append((gang.task, gang.trained.with_audit(answer.value)))
        elif answer.value.saved:
            audit = partial(population.audit, saved=answer.value.saved)
            audits = self._start(gang.task, "audit", audit, gang.gpus)
            audits.trained, audits.begun = answer.value, gang.begun
        else:
            self._ended.append((gang.task, answer.value))

    def _fail(self, gang: Gang, failure: Outcome) -> None:
        """Kill a gang's processes and keep the failure as its task's outcome."""
        self._leave(gang)
        kill(gang.workers)
        if gang.role == "call":
            self._called = failure
        elif gang.role == "audit":
            self._ended.append((gang.task, gang.trained.without_audit(failure)))
        else:
            self._ended.append((gang.task, failure))

    def _leave(self, gang: Gang) -> None:
        """Forget a gang, and remove the file at which its ranks met."""
        self._gangs.remove(gang)
        gang.meeting.unlink(missing_ok=True)


def _first_failure(workers: list[WorkerProcess]) -> Outcome:
    """Return the failure to report when a rank raised: a peer's death, else the first error."""
    for rank, worker in enumerate(workers):
        if worker.answer is None and worker.pipe.poll(ECHO_S):
            with contextlib.suppress(EOFError, OSError):
                worker.answer = worker.pipe.recv()
        if worker.answer is None:
            worker.process.join(ECHO_S)
            if (worker.process.exitcode or 0) < 0:
                return failures.died(rank, worker.process.exitcode, worker.stacks)
    answers = [worker.answer for worker in workers]
    errors = [(a.at, rank, a) for rank, a in enumerate(answers) if isinstance(a, Raised)]
    _, rank, first = min(errors, key=lambda error: error[:2])
    return failures.raised(first.line, first.traceback, rank if len(workers) > 1 else None)
