"""The local executor: cells in warm one-thread processes, never more than cores, each with a
deadline. A worker that dies, hangs or raises costs its own cell only.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import cloudpickle

from harness.axes import parallel
from harness.execution import failures, process
from harness.trial import population
from harness.trial.task import Task

PRELOAD = ["pytest", "harness.execution.preload"]
GRACE_S = 2.0
ECHO_S = 1.0  # how long before its own end a rank's death may be heard from a peer
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Member:
    """A warm process, idle or one of a gang.

    stacks: the file to which it says where it is.
    rank: the one it has been, and stays: torch remembers where a rank's shards lie.
    """

    process: Any
    pipe: connection.Connection
    stacks: Path
    answer: tuple | None = None
    rank: int | None = None


@dataclass
class Gang:
    """The processes that work on one task now, and its deadline in time.monotonic seconds."""

    task: Task
    phase: str
    deadline: float
    meeting: Path
    members: list[Member]
    trained: dict[str, Any]


Finished = Callable[[Task, dict[str, Any]], None]


class LocalExecutor:
    """Runs tasks as cores allow and hands each outcome to ``finished`` as it comes.

    An outcome holds the fields of a Record: status, reason, traceback, metrics and so on.
    Nothing runs by itself: ``pump`` moves everything on, so there are no threads here. Processes
    stay warm for the next task, but one that trains never audits: a checkpoint is loaded where
    nothing of its training ever was.
    """

    def __init__(self, tasks: Iterable[Task], finished: Finished, cores: int | None = None):
        self.waiting = deque(tasks)
        self.finished = finished
        self.cores = cores or os.cpu_count() or 1
        self.gangs: list[Gang] = []
        self.idle: dict[str, list[Member]] = defaultdict(list)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)
        self.folder = Path(tempfile.mkdtemp(prefix="decathlon-"))

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue them."""
        self.waiting.extend(tasks)

    def pump(self, timeout_s: float = 0.5) -> bool:
        """Start what fits, wait for news at most ``timeout_s``, handle it. False: all is done."""
        while self.waiting and self._free() >= min(self.waiting[0].world_size, self.cores):
            task = self.waiting.popleft()
            self._start(task, "train", population.train, {})
        if not self.gangs:
            return False
        watched = {m.pipe: g for g in self.gangs for m in g.members if m.answer is None}
        nearest = min(gang.deadline for gang in self.gangs) - time.monotonic()
        for pipe in connection.wait(list(watched), max(0.0, min(timeout_s, nearest))):
            self._hear(watched[pipe], pipe)  # type: ignore[index,arg-type]
        for gang in list(self.gangs):
            if gang in self.gangs and time.monotonic() > gang.deadline:
                pids = [member.process.pid for member in gang.members]
                stacks = [member.stacks for member in gang.members]
                self._end(gang, failures.hung(pids, stacks, gang.task.budget.timeout_s))
        return bool(self.gangs or self.waiting)

    def call(self, function: Callable[[Task, int], Any], task: Task) -> Any:
        """The function's value on rank 0 of the task's warm processes, once all else is done.

        Raises RuntimeError with the reason if it fails.
        """
        while self.pump():
            pass
        answer: dict[str, Any] = {}
        self.finished, before = (lambda _, outcome: answer.update(outcome)), self.finished
        try:
            self._start(task, "call", function, {})
            while self.pump():
                pass
        finally:
            self.finished = before
        if "value" not in answer:
            raise RuntimeError(f"{answer['reason']}\n{answer.get('traceback', '')}")
        return answer["value"]

    def close(self) -> None:
        """Kill what still runs and remove temporary files. The cells in flight are lost."""
        self.waiting.clear()
        members = [member for gang in self.gangs for member in gang.members]
        _kill([*members, *(member for idle in self.idle.values() for member in idle)])
        self.gangs.clear()
        self.idle.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _free(self) -> int:
        return self.cores - sum(len(gang.members) for gang in self.gangs)

    def _start(self, task: Task, phase: str, function: Callable, trained: dict[str, Any]) -> None:
        meeting = self.folder / uuid.uuid4().hex
        deadline = time.monotonic() + task.budget.timeout_s
        distributed = parallel.is_distributed(task.cell.parallel)
        wanted = range(task.world_size) if distributed else [None]
        members = [self._member(phase, rank) for rank in wanted]
        work = _by_value(function, task)
        for rank, member in enumerate(members):
            member.answer = None
            with contextlib.suppress(BrokenPipeError):  # it died: heard as the end of its pipe
                member.pipe.send((work, rank, f"file://{meeting}"))
        self.gangs.append(Gang(task, phase, deadline, meeting, members, trained))

    def _member(self, phase: str, rank: int | None) -> Member:
        """An idle process that has been no other rank, one that has been this rank first."""
        idle = self.idle[phase] = [m for m in self.idle[phase] if m.process.is_alive()]
        fit = [m for m in idle if rank is None or m.rank in (None, rank)]
        if fit:
            member = max(fit, key=lambda m: m.rank == rank)
            idle.remove(member)
            member.rank = rank if member.rank is None else member.rank
            return member
        ours, theirs = self.context.Pipe()
        stacks = self.folder / f"stacks-{uuid.uuid4().hex}"
        started = self.context.Process(target=process.main, args=(theirs, stacks), daemon=True)
        with _one_thread():
            started.start()
        theirs.close()
        return Member(started, ours, stacks, rank=rank)

    def _hear(self, gang: Gang, pipe: connection.Connection) -> None:
        if gang not in self.gangs:
            return
        rank, member = next((r, m) for r, m in enumerate(gang.members) if m.pipe is pipe)
        try:
            member.answer = pipe.recv()
        except (EOFError, OSError):
            member.process.join(GRACE_S)
            self._end(gang, _death(rank, member))
            return
        if member.answer[0] == "error":
            for other, peer in enumerate(gang.members):
                if peer.answer is None and peer.pipe.poll(ECHO_S):
                    with contextlib.suppress(EOFError, OSError):
                        peer.answer = peer.pipe.recv()
                if peer.answer is None:
                    peer.process.join(ECHO_S)
                    if (peer.process.exitcode or 0) < 0:
                        self._end(gang, _death(other, peer))
                        return
            self._end(gang, failures.raised([m.answer for m in gang.members]))
        elif all(m.answer is not None for m in gang.members):
            self._done(gang, gang.members[0].answer[1])  # type: ignore[index]

    def _done(self, gang: Gang, outcome: dict[str, Any]) -> None:
        self.gangs.remove(gang)
        self.idle[gang.phase] += gang.members
        gang.meeting.unlink(missing_ok=True)
        if gang.phase == "call":
            self.finished(gang.task, {"value": outcome})
        elif gang.phase == "audit":
            self.finished(gang.task, {**gang.trained, "checkpoint": outcome})
        elif outcome.get("checkpoint"):
            self._start(gang.task, "audit", _Audit(outcome["checkpoint"]), outcome)
        else:
            self.finished(gang.task, outcome)

    def _end(self, gang: Gang, outcome: dict[str, Any]) -> None:
        """The gang did not get to an end by itself: none of its processes is used again."""
        self.gangs.remove(gang)
        _kill(gang.members)
        gang.meeting.unlink(missing_ok=True)
        if gang.phase == "audit":
            outcome["reason"] = f"while its checkpoint was audited: {outcome['reason']}"
            outcome = {**gang.trained, "checkpoint": {}, **outcome}
        self.finished(gang.task, outcome)


def _kill(members: Iterable[Member]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = [member.process for member in members if member.process.is_alive()]
        for one in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(one.pid, number)
        limit = time.monotonic() + GRACE_S
        for one in alive:
            one.join(max(0.0, limit - time.monotonic()))


@dataclass(frozen=True)
class _Audit:
    """crowd.audit with what training expects of it, as something that can be sent."""

    expected: dict[str, Any]

    def __call__(self, task: Task, rank: int) -> dict[str, Any]:
        return population.audit(task, rank, self.expected)


def _by_value(function: Callable, task: Task) -> bytes:
    """Pickled; a topic from a conftest or a test travels with its code."""
    module = sys.modules[type(task.topic).__module__]
    if module.__name__.split(".")[0] == "harness":
        return cloudpickle.dumps((function, task))
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((function, task))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@contextlib.contextmanager
def _one_thread():
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _death(rank: int, member: Member) -> dict[str, Any]:
    reason = f"rank {rank} died: {_exit(member.process.exitcode)}"
    return {"status": "failed", "reason": reason}


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
