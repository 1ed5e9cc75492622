"""Executor for a Ray cluster: each task runs as a gang of ranks that are placed all at once.

A task whose node or actor is lost is queued again.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from harness.axes import parallel
from harness.cell import Cell, Status, UsageError
from harness.execution.cluster.actor import Answer, Order
from harness.execution.cluster.resources import Request, connect, shortage
from harness.execution.cluster.slots import Slot, Slots, lives
from harness.execution.executor import Ended
from harness.execution.process import Function, Returned, packed
from harness.files import write_atomically
from harness.training.topic import Topic
from harness.trial import population
from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.task import Task

TRIES = 3
TRANSPORTS = ("gloo", "NCCL")  # an error that names one came from a peer
SILENCE_S = 120.0  # between looks at whether a gang's actors still answer


@dataclass(eq=False)
class Gang:
    """The slots (actors) working on one task, one per rank, and what they have answered.

    look_at: when to see whether they live, in ``time.monotonic`` seconds. pending: the rank of each
    answer not there yet. files: what the ranks left on their nodes. lost: how the cluster lost it,
    empty if it did not.
    """

    name: str
    task: Task
    role: str
    function: Function
    slots: list[Slot]
    look_at: float
    trained: Outcome | PopulationOutcome = field(default_factory=Outcome)
    pending: dict[ray.ObjectRef, int] = field(default_factory=dict)
    files: list[ray.ObjectRef] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    lost: str = ""


class ClusterExecutor:
    """Executor that runs tasks on a Ray cluster, with the same outcomes as the local executor.

    Connects to the cluster that RAY_ADDRESS names, else to one of this machine, else starts one
    here. Raises UsageError if RAY_ADDRESS leads nowhere. No shared file system is needed: what a
    task leaves under its run folder comes back with its outcome.
    """

    def __init__(self) -> None:
        self.own = connect()
        self._waiting: deque[tuple[Task, str, Function]] = deque()
        self._gangs: list[Gang] = []
        self._slots = Slots()
        self._losses = Counter[Cell]()
        self._ended: list[Ended] = []
        self._called: Returned | Outcome | None = None

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks. Raises UsageError, none queued, if one can never run on this cluster."""
        tasks = list(tasks)
        for task in tasks:
            if lacking := shortage(task, ray.nodes()):
                raise UsageError(lacking)
        self._waiting.extend((task, "train", population.train) for task in tasks)

    def requeue(self, tasks: Iterable[Task], instead_of: Collection[Task] = ()) -> None:
        """Queue tasks ahead of all others, and drop the queued tasks ``instead_of``."""
        again = [(task, "train", population.train) for task in tasks]
        kept = [waiting for waiting in self._waiting if waiting[0] not in instead_of]
        self._waiting = deque([*again, *kept])

    def pending(self) -> list[Task]:
        """Return the tasks that are queued or running."""
        return [task for task, *_ in self._waiting] + [gang.task for gang in self._gangs]

    def running(self) -> list[Task]:
        """Return the tasks that processes are working on."""
        return [gang.task for gang in self._gangs]

    def pump(self, timeout_s: float = 0.5) -> list[Ended]:
        """Start the tasks that fit, wait at most ``timeout_s`` for news, return ended tasks."""
        self._start()
        watched = {ref: gang for gang in self._gangs for ref in gang.pending}
        forming = [self._slots.forming.ready] if self._slots.forming else []
        if watched or forming:
            news, _ = ray.wait([*watched, *forming], timeout=timeout_s)
            for ref in news:
                if ref in watched:
                    self._hear(watched[ref], ref)
                else:
                    self._slots.formed()
            if not news:
                self._look_around()
        ended, self._ended = self._ended, []
        return ended

    def call(self, function: Function, task: Task) -> Any:
        """Run ``function(task, rank)`` on every rank of a task, and return rank 0's value.

        Only while nothing else is pending. Raises RuntimeError with the reason if it fails.
        """
        if self.pending():
            raise RuntimeError("call waits for no other tasks: pump until nothing is pending")
        self._called = None
        self._waiting.append((task, "call", function))
        while self._called is None:
            self.pump()
        if isinstance(self._called, Outcome):
            raise RuntimeError(f"{self._called.reason}\n{self._called.traceback}")
        return self._called.value

    def close(self) -> None:
        """Kill running processes and remove temporary files; tasks that have not ended are lost."""
        self._waiting.clear()
        self._gangs.clear()
        self._slots.close()
        if self.own:
            ray.shutdown()
            self.own = False

    def _start(self) -> None:
        """Start queued tasks in order, each once there is a slot for every rank."""
        while self._waiting:
            task, role, function = self._waiting[0]
            if not (slots := self._slots.take(Request.of(task))):
                return
            self._waiting.popleft()
            self._work(task, role, function, slots)
        self._slots.form(None)

    def _work(
        self,
        task: Task,
        role: str,
        function: Function,
        slots: list[Slot],
        files: Iterable[ray.ObjectRef] = (),
    ) -> Gang:
        """Start a function on a task's slots; ``files`` are written to its run folder first."""
        look_at = time.monotonic() + SILENCE_S
        gang = Gang(uuid.uuid4().hex, task, role, function, slots, look_at)
        work, outline = packed(function, task), replace(task, topic=Topic(), own=())
        meets = parallel.is_distributed(task.cell.parallel)
        meeting = slots[0].actor.meet.remote() if meets else ""
        for rank, slot in enumerate(slots):
            order = Order(gang.name, role, work, outline, rank, tuple(sys.path))
            answer, left = slot.actor.work.options(num_returns=2).remote(order, meeting, *files)
            gang.pending[answer] = rank
            gang.files.append(left)
        self._gangs.append(gang)
        return gang

    def _hear(self, gang: Gang, ref: ray.ObjectRef) -> None:
        """Receive a rank's answer; if it failed, stop its peers, which would wait for it."""
        rank = gang.pending.pop(ref)
        try:
            answer = gang.answers[rank] = ray.get(ref)
            over = answer.failure is not None
        except RayError as error:
            gang.lost = _last_line(error)
            over = True
        if over:
            for other in gang.pending.values():  # they would wait for this rank
                gang.slots[other].actor.stop.remote(gang.name)
        if not gang.pending:
            self._over(gang)

    def _over(self, gang: Gang) -> None:
        """Act on a gang whose ranks have all answered: audit, finish, or queue the task again."""
        bad = [answer for answer in gang.answers.values() if answer.failure]
        if gang.role == "train" and not bad and not gang.lost:
            self._take_in(gang)
        self._gangs.remove(gang)
        if gang.lost:
            self._put_back(gang)
            return
        if bad:
            self._slots.idle += gang.slots
            failure = min(bad, key=blame).failure
            assert failure is not None
            self._fail(gang, failure)
            return
        returned = gang.answers[0].returned
        assert returned is not None
        if gang.role == "train" and returned.value.saved:
            audit = partial(population.audit, saved=returned.value.saved)
            self._work(gang.task, "audit", audit, gang.slots, gang.files).trained = returned.value
            return
        self._slots.idle += gang.slots
        if gang.role == "call":
            self._called = returned
        elif gang.role == "audit":
            self._ended.append((gang.task, gang.trained.with_audit(returned.value)))
        else:
            self._ended.append((gang.task, returned.value))

    def _take_in(self, gang: Gang) -> None:
        """Write the files that training left on the nodes into the run's folder."""
        try:
            for files in ray.get(gang.files):
                for name, data in files.items():
                    write_atomically(gang.task.run / name, data)
        except RayError as error:
            gang.lost = _last_line(error)

    def _fail(self, gang: Gang, failure: Outcome) -> None:
        """Keep a failure as the outcome of a gang's task."""
        if gang.role == "call":
            self._called = failure
        elif gang.role == "audit":
            self._ended.append((gang.task, gang.trained.without_audit(failure)))
        else:
            self._ended.append((gang.task, failure))

    def _put_back(self, gang: Gang) -> None:
        """Queue a lost gang's task again, unless it was lost TRIES times; drop dead actors."""
        self._slots.idle += gang.slots
        self._slots.drop_dead()
        self._losses[gang.task.cell] += 1
        if (times := self._losses[gang.task.cell]) >= TRIES:
            reason = f"{gang.lost} ({times} times)"
            self._fail(gang, Outcome(status=Status.FAILED, reason=reason))
        elif gang.role == "call":
            self._waiting.appendleft((gang.task, "call", gang.function))
        else:  # an audit's files were on its node too
            self._waiting.appendleft((gang.task, "train", population.train))

    def _look_around(self) -> None:
        """Give up silent gangs and tasks too large for the cluster, when nothing has happened."""
        for gang in list(self._gangs):
            if time.monotonic() < gang.look_at:
                continue
            gang.look_at = time.monotonic() + SILENCE_S
            ranks = [rank for rank in gang.pending.values() if not lives(gang.slots[rank])]
            if ranks:
                self._gangs.remove(gang)
                gang.lost = f"no answer from rank {min(ranks)}"
                silent = [gang.slots[rank] for rank in ranks]
                self._slots.drop(silent)
                gang.slots = [slot for slot in gang.slots if slot not in silent]
                self._put_back(gang)
        nodes = ray.nodes()
        for waiting in list(self._waiting):
            task, role, _ = waiting
            if lacking := shortage(task, nodes):
                self._waiting.remove(waiting)
                failure = Outcome(status=Status.FAILED, reason=lacking)
                if role == "call":
                    self._called = failure
                else:
                    self._ended.append((task, failure))
        if self._slots.forming:
            self._slots.disband()  # idle slots may be in its way


def blame(answer: Answer) -> tuple[bool, bool, bool, float]:
    """Return the sort key of a rank's failure, by which the one to blame comes first.

    A death, then an error of its own or where it hangs, then echoes of a peer's, then waiting.
    """
    failure = answer.failure
    assert failure is not None
    waited = failure.status is Status.TIMEOUT and not failure.traceback
    echo = any(name in failure.reason for name in TRANSPORTS)
    return waited, bool(failure.traceback), echo, answer.at


def _last_line(error: Exception) -> str:
    """Return the last line of Ray's error, without its guesses at the cause."""
    return str(error).strip().splitlines()[-1].strip().partition(" Worker exit type")[0]
