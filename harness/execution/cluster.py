"""The executor for a Ray cluster: cells as gangs of ranks, placed all at once where they fit.

A node or a place that is lost is the cluster's fault: its cell is put back and runs elsewhere.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.cell import Cell, UsageError
from harness.execution import worker
from harness.execution.capacity import Request, shortage
from harness.execution.local import Finished, _Audit, _by_value
from harness.execution.place import Answer, Order, Place
from harness.execution.task import Task
from harness.store import write_atomically
from harness.topic import Topic

TRIES = 3
CLOSE_S = 5.0
SILENCE_S = 120.0  # beyond a cell's deadline: for a place to start, and for files to travel


@dataclass
class Crew:
    """Places on one or more nodes, one a rank, that a placement group holds together."""

    request: Request
    group: PlacementGroup
    ready: ray.ObjectRef
    places: list[Any] = field(default_factory=list)


@dataclass
class Gang:
    """A crew at work on a task. pending: the rank of each answer that has not come yet."""

    name: str
    task: Task
    phase: str
    crew: Crew
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
        self.idle: list[Crew] = []
        self.forming: Crew | None = None
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
        forming = [self.forming.ready] if self.forming else []
        if not watched and not forming:
            return bool(self.waiting)
        news, _ = ray.wait([*watched, *forming], timeout=timeout_s)
        for ref in news:
            if ref in watched:
                self._hear(watched[ref], ref)
            else:
                self._formed()
        if not news:
            self._look_around()
        return bool(self.gangs or self.waiting)

    def close(self) -> None:
        """Kill what still runs and remove temporary files. The cells in flight are lost."""
        self.waiting.clear()
        forming = [self.forming] if self.forming else []
        self._disband([*self.idle, *(gang.crew for gang in self.gangs), *forming])
        self.gangs.clear()
        self.forming = None
        if self.own:
            ray.shutdown()
            self.own = False

    def _start(self) -> None:
        """Give the queue's head to a crew of its size, or begin to form one."""
        while self.waiting:
            request = Request.of(self.waiting[0])
            crew = next((crew for crew in self.idle if crew.request == request), None)
            if crew is None:
                self._form(request)
                return
            self.idle.remove(crew)
            task = self.waiting.popleft()
            self._work(task, "train", worker.train, crew)
        if self.forming:
            remove_placement_group(self.forming.group)
            self.forming = None

    def _form(self, request: Request) -> None:
        """One crew at a time; idle ones of another size make room for it."""
        self._disband(self.idle)
        if self.forming and self.forming.request != request:
            remove_placement_group(self.forming.group)
            self.forming = None
        if self.forming is None:
            group = placement_group(request.bundles)
            self.forming = Crew(request, group, group.ready())

    def _formed(self) -> None:
        crew, self.forming = self.forming, None
        assert crew is not None
        for rank in range(crew.request.ranks):
            where = PlacementGroupSchedulingStrategy(crew.group, rank)
            place = ray.remote(Place).options(
                num_cpus=1,
                num_gpus=crew.request.gpus,
                max_concurrency=3,
                scheduling_strategy=where,
            )
            crew.places.append(place.remote())
        self.idle.append(crew)

    def _disband(self, crews: Iterable[Crew]) -> None:
        """Let their places remove their files, then give back what they hold."""
        crews = list(crews)
        self.idle = [crew for crew in self.idle if crew not in crews]
        if closing := [place.close.remote() for crew in crews for place in crew.places]:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        for crew in crews:
            remove_placement_group(crew.group)

    def _work(
        self,
        task: Task,
        phase: str,
        function: Callable,
        crew: Crew,
        trained: Mapping[str, Any] | None = None,
        files: Iterable[ray.ObjectRef] = (),
    ) -> None:
        deadline = time.monotonic() + task.budget.timeout_s + SILENCE_S
        gang = Gang(uuid.uuid4().hex, task, phase, crew, dict(trained or {}), deadline)
        work, outline = _by_value(function, task), replace(task, topic=Topic())
        meeting = crew.places[0].meet.remote() if task.world_size > 1 else ""
        for rank, place in enumerate(crew.places):
            order = Order(gang.name, phase, work, outline, rank)
            answer, left = place.work.options(num_returns=2).remote(order, meeting, *files)
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
                gang.crew.places[other].stop.remote(gang.name)
        if not gang.pending:
            self.gangs.remove(gang)
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
        if gang.lost:
            self._put_back(gang)
            return
        outcome = gang.answers[0].outcome or {}
        if not bad and training and (expected := outcome.get("checkpoint")):
            self._work(gang.task, "audit", _Audit(expected), gang.crew, outcome, gang.files)
            return
        self.idle.append(gang.crew)
        if bad:  # a death is what its peers' errors are echoes of, else the first error is
            first = min(bad, key=lambda a: ("traceback" in (a.outcome or {}), a.at))
            self._failed(gang, dict(first.outcome or {}))
        else:
            self.finished(
                gang.task, outcome if training else {**gang.trained, "checkpoint": outcome}
            )

    def _failed(self, gang: Gang, outcome: dict[str, Any]) -> None:
        if gang.phase == "audit":
            outcome["reason"] = f"while its checkpoint was audited: {outcome['reason']}"
            outcome = {**gang.trained, "checkpoint": {}, **outcome}
        self.finished(gang.task, outcome)

    def _put_back(self, gang: Gang) -> None:
        """It runs again elsewhere, a few times. Nobody knows what else went: no crew is kept."""
        self._disband([*self.idle, gang.crew])
        self.losses[gang.task.cell] += 1
        if (times := self.losses[gang.task.cell]) < TRIES:
            self.waiting.appendleft(gang.task)
        else:
            self._failed(gang, {"status": "failed", "reason": f"{gang.lost} ({times} times)"})

    def _look_around(self) -> None:
        """Nothing happened: is there somebody to wait for?"""
        for gang in list(self.gangs):
            if time.monotonic() > gang.deadline:
                self.gangs.remove(gang)
                gang.lost = f"rank {min(gang.pending.values())} did not answer"
                self._put_back(gang)
        nodes = ray.nodes()
        for task in list(self.waiting):
            if lacking := shortage(task, nodes):
                self.waiting.remove(task)
                self.finished(task, {"status": "failed", "reason": lacking})


def connect() -> bool:
    """Connect this process to Ray if it is not yet. Returns whether that is for us to end.

    Raises UsageError if RAY_ADDRESS leads nowhere.
    """
    if ray.is_initialized():
        return False
    init = partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
    try:
        init("auto")
    except ConnectionError as error:
        if address := os.environ.get("RAY_ADDRESS"):
            raise UsageError(f"no Ray cluster at RAY_ADDRESS {address}: {error}") from None
        init("local", include_dashboard=False)
    return True


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
