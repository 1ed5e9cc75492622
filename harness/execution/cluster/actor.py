"""One rank's place on a node of a cluster: what the Ray executor's actors are.

The place itself trains nothing. It keeps a warm process that trains and one that audits, as the
local executor does, so a cell's numbers, deadlines and deaths are those of the local executor.
"""

from __future__ import annotations

import pickle
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

import cloudpickle
import ray
import torch.distributed as dist

from harness.axes import parallel
from harness.execution import failures
from harness.execution.local import ECHO_S, GRACE_S, LocalExecutor, Member, _death, _kill
from harness.trial.task import Task

Files = dict[str, bytes]  # what lies under a task's run folder, by relative path
PRELOAD = ["ray", "harness.execution.preload"]  # ray: the main module here imports it


@dataclass(frozen=True)
class Order:
    """A rank's part in a gang's work. task: without its topic, which only ``work`` brings.

    path: the driver's sys.path, for what a topic imports where the nodes have that too.
    """

    gang: str
    phase: str
    work: bytes
    task: Task
    rank: int
    path: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """outcome: fields of a record, of rank 0 or of a failure; None if it was told to stop.

    at: when it came, in seconds since the epoch.
    """

    at: float
    outcome: dict[str, Any] | None

    @property
    def bad(self) -> bool:
        return self.outcome is not None and failed(self.outcome)


def failed(outcome: dict[str, Any]) -> bool:
    return outcome.get("status") in ("failed", "timeout")


class Place:
    """Works on one order at a time; ``meet``, ``stop`` and ``close`` may be called meanwhile."""

    def __init__(self) -> None:
        self.pool = LocalExecutor([], lambda *_: None, cores=1)
        self.pool.context.set_forkserver_preload(PRELOAD)
        self.store: dist.TCPStore | None = None
        self.member: Member | None = None
        self.gang = ""
        self.stopped: set[str] = set()
        self.killed = ""
        self.lock = threading.Lock()

    def meet(self) -> str:
        """A new store on this node, where a gang's ranks find each other: its tcp:// address."""
        host = ray.util.get_node_ip_address()
        self.store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return f"tcp://{host}:{self.store.port}"

    def work(self, order: Order, meeting: str, *files: Files) -> tuple[Answer, Files]:
        """The answer, and the files that training left here. files: those to begin with."""
        folder = Path(tempfile.mkdtemp(dir=self.pool.folder))
        try:
            for name, content in (item for found in files for item in found.items()):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            answer = Answer(outcome=self._outcome(order, meeting, folder), at=time.time())
            if answer.bad or answer.outcome is None or order.phase == "audit":
                return answer, {}
            left = (path for path in folder.rglob("*") if path.is_file())
            return answer, {str(path.relative_to(folder)): path.read_bytes() for path in left}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self, gang: str) -> None:
        """Give up the gang's work, now or when it comes: its peers cannot go on. A process that
        is about to end by itself may still do so.
        """
        self.stopped.add(gang)
        member = self.member if self.gang == gang else None
        if member is None or connection.wait([member.process.sentinel], ECHO_S):
            return
        with self.lock:
            if self.gang == gang:
                self.killed = gang
                _kill([member])

    def close(self) -> None:
        """Kill what still runs and remove the files."""
        self.stop(self.gang)
        self.pool.close()

    def _outcome(self, order: Order, meeting: str, folder: Path) -> dict[str, Any] | None:
        distributed = parallel.is_distributed(order.task.cell.parallel)
        member = self.pool._member(order.phase, order.rank if distributed else None)
        with self.lock:
            self.member, self.gang = member, order.gang
            stopped = order.gang in self.stopped
        try:
            outcome = {} if stopped else self._hear(member, order, meeting, folder)
        finally:
            with self.lock:
                self.member, self.gang = None, ""
        if stopped or self.killed == order.gang:
            _kill([member])
            return None
        if not failed(outcome):
            self.pool.idle[order.phase].append(member)
        return outcome

    def _hear(self, member: Member, order: Order, meeting: str, folder: Path) -> dict[str, Any]:
        limit_s = order.task.budget.timeout_s
        rank = order.rank if order.task.world_size > 1 else None
        work = pickle.dumps((_Here(order.work, folder, order.path), order.task))
        try:
            member.pipe.send((work, order.rank, meeting))
            if not member.pipe.poll(limit_s):
                ranks = None if rank is None else [rank]
                found = failures.hung([member.process.pid], [member.stacks], limit_s, ranks)
                _kill([member])
                return found
            kind, *answer = member.pipe.recv()
        except (EOFError, OSError):
            member.process.join(GRACE_S)
            return _death(order.rank, member)
        if kind == "ok":
            return answer[0] or {}
        line, trace, _ = answer
        return failures.failure(line, trace, rank)


@dataclass(frozen=True)
class _Here:
    """The work (a pickled function and task) with its files in a folder of this node."""

    work: bytes
    folder: Path
    path: tuple[str, ...]

    def __call__(self, _: Task, rank: int) -> Any:
        sys.path += [entry for entry in self.path if entry not in sys.path]
        function, task = cloudpickle.loads(self.work)
        return function(replace(task, run=self.folder), rank)
