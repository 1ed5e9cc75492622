"""The executor for a Ray cluster: cells as gangs of ranks, placed all at once where they fit.

A node or a place that is lost is the cluster's fault: its cell is put back and runs elsewhere.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError

from harness.axes import parallel
from harness.cell import Cell, UsageError
from harness.execution.cluster.actor import Answer, Order
from harness.execution.cluster.resources import Request, connect, shortage
from harness.execution.cluster.slots import Seat, Seats
from harness.execution.local import Finished, _Audit, _by_value
from harness.files import write_atomically
from harness.training.topic import Topic
from harness.trial import train
from harness.trial.task import Task

TRIES = 3
TRANSPORTS = ("gloo", "NCCL")  # an error that names one came from a peer
SILENCE_S = 120.0  # beyond a cell's deadline: for a place to start, and for files to travel


@dataclass(eq=False)
class Gang:
    """Seats at work on a task, one a rank. pending: the rank of each answer not there yet."""

    name: str
    task: Task
    phase: str
    seats: list[Seat]
    trained: dict[str, Any]
    deadline: float
    pending: dict[ray.ObjectRef, int] = field(default_factory=dict)
    files: list[ray.ObjectRef] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    lost: str = ""


class ClusterExecutor:
    """Runs tasks as the cluster allows; has the interface and the outcomes of LocalExecutor.

    Connects to the cluster that RAY_ADDRESS names, else to one of this machine, else starts one
    here. Raises UsageError if RAY_ADDRESS leads nowhere. No shared file system is needed: what a
    task leaves under its run folder comes back with its outcome.
    """

    def __init__(self, tasks: Iterable[Task], finished: Finished):
        self.own = connect()
        self.waiting = deque[Task]()
        self.finished = finished
        self.gangs: list[Gang] = []
        self.seats = Seats()
        self.losses = Counter[Cell]()
        self.add(tasks)

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue them. Raises UsageError, none queued, if one can never run on this cluster."""
        tasks = list(tasks)
        for task in tasks:
            if lacking := shortage(task, ray.nodes()):
                raise UsageError(lacking)
        self.waiting.extend(tasks)

    def pump(self, timeout_s: float = 0.5) -> bool:
        """Start what fits, wait for news at most ``timeout_s``, handle it. False: all is done."""
        self._start()
        watched = {ref: gang for gang in self.gangs for ref in gang.pending}
        forming = [self.seats.forming.ready] if self.seats.forming else []
        if not watched and not forming:
            return bool(self.waiting)
        news, _ = ray.wait([*watched, *forming], timeout=timeout_s)
        for ref in news:
            if ref in watched:
                self._hear(watched[ref], ref)
            else:
                self.seats.formed()
        if not news:
            self._look_around()
        return bool(self.gangs or self.waiting)

    def close(self) -> None:
        """Kill what still runs and remove temporary files. The cells in flight are lost."""
        self.waiting.clear()
        self.gangs.clear()
        self.seats.close()
        if self.own:
            ray.shutdown()
            self.own = False

    def _start(self) -> None:
        """Seat the queue's head as soon as there are seats for all its ranks."""
        while self.waiting:
            if not (seats := self.seats.take(Request.of(self.waiting[0]))):
                return
            self._work(self.waiting.popleft(), "train", train.train, seats)
        self.seats.form(None)

    def _work(
        self,
        task: Task,
        phase: str,
        function: Callable,
        seats: list[Seat],
        trained: Mapping[str, Any] | None = None,
        files: Iterable[ray.ObjectRef] = (),
    ) -> None:
        deadline = time.monotonic() + task.budget.timeout_s + SILENCE_S
        gang = Gang(uuid.uuid4().hex, task, phase, seats, dict(trained or {}), deadline)
        work, outline = _by_value(function, task), replace(task, topic=Topic())
        meets = parallel.is_distributed(task.cell.parallel)
        meeting = seats[0].place.meet.remote() if meets else ""
        for rank, seat in enumerate(seats):
            order = Order(gang.name, phase, work, outline, rank, tuple(sys.path))
            answer, left = seat.place.work.options(num_returns=2).remote(order, meeting, *files)
            gang.pending[answer] = rank
            gang.files.append(left)
        self.gangs.append(gang)

    def _hear(self, gang: Gang, ref: ray.ObjectRef) -> None:
        rank = gang.pending.pop(ref)
        try:
            answer = gang.answers[rank] = ray.get(ref)
            over = answer.bad
        except RayError as error:
            gang.lost = _last_line(error)
            over = True
        if over:
            for other in gang.pending.values():  # they would wait for this rank
                gang.seats[other].place.stop.remote(gang.name)
        if not gang.pending:
            self._over(gang)

    def _over(self, gang: Gang) -> None:
        """All ranks have answered: go on to the audit, finish, or put the task back."""
        bad = [answer for answer in gang.answers.values() if answer.bad]
        training = gang.phase == "train"
        if training and not bad and not gang.lost:
            try:
                for files in ray.get(gang.files):
                    for name, content in files.items():
                        write_atomically(gang.task.run / name, content)
            except RayError as error:
                gang.lost = _last_line(error)
        self.gangs.remove(gang)
        if gang.lost:
            self._put_back(gang)
            return
        outcome = gang.answers[0].outcome or {}
        if training and not bad and (expected := outcome.get("checkpoint")):
            self._work(gang.task, "audit", _Audit(expected), gang.seats, outcome, gang.files)
            return
        self.seats.idle += gang.seats
        if bad:
            self._failed(gang, dict(min(bad, key=blame).outcome or {}))
        elif training:
            self.finished(gang.task, outcome)
        else:
            self.finished(gang.task, {**gang.trained, "checkpoint": outcome})

    def _failed(self, gang: Gang, outcome: dict[str, Any]) -> None:
        if gang.phase == "audit":
            outcome["reason"] = f"while its checkpoint was audited: {outcome['reason']}"
            outcome = {**gang.trained, "checkpoint": {}, **outcome}
        self.finished(gang.task, outcome)

    def _put_back(self, gang: Gang) -> None:
        """It runs again, a few times, on places that are known to live."""
        self.seats.idle += gang.seats
        self.seats.drop_dead()
        self.losses[gang.task.cell] += 1
        if (times := self.losses[gang.task.cell]) < TRIES:
            self.waiting.appendleft(gang.task)
        else:
            self._failed(gang, {"status": "failed", "reason": f"{gang.lost} ({times} times)"})

    def _look_around(self) -> None:
        """Nothing happened: is what we wait for still to come?"""
        for gang in list(self.gangs):
            if time.monotonic() > gang.deadline:
                self.gangs.remove(gang)
                gang.lost = f"no answer from rank {min(gang.pending.values())}"
                silent = [gang.seats[rank] for rank in gang.pending.values()]
                self.seats.drop(silent)
                gang.seats = [seat for seat in gang.seats if seat not in silent]
                self._put_back(gang)
        nodes = ray.nodes()
        for task in list(self.waiting):
            if lacking := shortage(task, nodes):
                self.waiting.remove(task)
                self.finished(task, {"status": "failed", "reason": lacking})
        if self.seats.forming:
            self.seats.disband()  # idle seats may be in its way


def blame(answer: Answer) -> tuple[bool, bool, bool, float]:
    """Sorts a gang's bad answers: a death, then an error of its own or where it hangs, then echoes
    of a peer's, then waiting for one.
    """
    outcome = answer.outcome or {}
    waited = outcome["status"] == "timeout" and "traceback" not in outcome
    echo = any(name in outcome["reason"] for name in TRANSPORTS)
    return waited, "traceback" in outcome, echo, answer.at


def _last_line(error: Exception) -> str:
    """What Ray says in the end, without its guesses at the cause."""
    return str(error).strip().splitlines()[-1].strip().partition(" Worker exit type")[0]
