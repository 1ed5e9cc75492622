"""The Ray actor that runs one rank of a task on a cluster's node.

The actor itself trains nothing. It keeps a warm process that trains and one that audits, as the
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

import ray
import torch.distributed as dist

from harness.axes import parallel
from harness.execution import failures
from harness.execution.local import ECHO_S, LOOK_S
from harness.execution.patience import given_up
from harness.execution.pool import GRACE_S, PRELOAD, WorkerPool, WorkerProcess, kill
from harness.execution.process import Returned, unpacked
from harness.trial.outcome import Outcome
from harness.trial.task import Task

DEADLOCK = 10  # times a cell's patience until ranks that all wait are given up
Files = dict[str, bytes]  # what lies under a task's run folder, by relative path


@dataclass(frozen=True)
class Order:
    """A request to an actor to run one rank of a task.

    gang: the name that the ranks of the task share. task is without its topic, which only ``work``
    brings. path is the driver's sys.path, for what a topic imports where the nodes have that too.
    """

    gang: str
    role: str
    work: bytes
    task: Task
    rank: int
    path: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A rank's result: what it returned, or its failure; neither if it was told to stop.

    at: when it came, in seconds since the epoch.
    """

    at: float
    returned: Returned | None = None
    failure: Outcome | None = None


class RankActor:
    """Ray actor that runs one rank at a time in a process on its node.

    Its other methods may be called while ``work`` runs.
    """

    def __init__(self) -> None:
        self.pool = WorkerPool(["ray", *PRELOAD])  # ray: the main module here imports it
        self.store: dist.TCPStore | None = None
        self.worker: WorkerProcess | None = None
        self.gang = ""
        self.stopped: set[str] = set()
        self.killed = ""
        self.patient_until = 0.0
        self.lock = threading.Lock()

    def meet(self) -> str:
        """Open a TCP store on this node where a gang's ranks meet; return its tcp:// address."""
        host = ray.util.get_node_ip_address()
        self.store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return f"tcp://{host}:{self.store.port}"

    def work(self, order: Order, meeting: str, *files: Files) -> tuple[Answer, Files]:
        """Run a rank's work; return its answer and the files that training wrote, by relative path.

        files: those to put into the run folder first. meeting: the URL where the ranks meet, or
        empty.
        """
        folder = Path(tempfile.mkdtemp(dir=self.pool.folder))
        try:
            for name, data in (item for found in files for item in found.items()):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            answer = self._answer(order, meeting, folder)
            if answer.returned is None or order.role != "train":
                return answer, {}
            left = (path for path in folder.rglob("*") if path.is_file())
            return answer, {str(path.relative_to(folder)): path.read_bytes() for path in left}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self, gang: str) -> None:
        """Stop a gang's work, now or when it comes, because a peer has failed.

        A process that is about to end by itself may still do so.
        """
        self.stopped.add(gang)
        worker = self.worker if self.gang == gang else None
        if worker is None or connection.wait([worker.process.sentinel], ECHO_S):
            return
        with self.lock:
            if self.gang == gang:
                self.killed = gang
                kill([worker])

    def close(self) -> None:
        """Kill the running process, if any, and remove temporary files."""
        self.stop(self.gang)
        self.pool.close()

    def _answer(self, order: Order, meeting: str, folder: Path) -> Answer:
        """Run an order in a process of the pool, which gets it back only if it succeeds."""
        distributed = parallel.is_distributed(order.task.cell.parallel)
        rank = order.rank if distributed else None
        gpu = 0 if order.task.device == "cuda" else None  # Ray shows the actor its own GPU only
        worker = self.pool.take(order.role, rank, gpu)
        with self.lock:
            self.worker, self.gang = worker, order.gang
            stopped = order.gang in self.stopped
        try:
            found = None if stopped else self._hear(worker, order, meeting, folder)
        finally:
            with self.lock:
                self.worker, self.gang = None, ""
        if found is None or self.killed == order.gang:
            kill([worker])
            return Answer(time.time())
        if isinstance(found, Outcome):
            kill([worker])
            return Answer(time.time(), failure=found)
        self.pool.give_back(order.role, [worker])
        return Answer(time.time(), returned=found)

    def _hear(
        self, worker: WorkerProcess, order: Order, meeting: str, folder: Path
    ) -> Returned | Outcome:
        """Send a process its work, and wait for what it returns or describe how it fails."""
        rank = order.rank if order.task.world_size > 1 else None
        work = pickle.dumps((_Here(order.work, folder, order.path), order.task))
        self.patient_until = 0.0
        worker.begin(work, order.rank, meeting)
        try:
            while not worker.pipe.poll(LOOK_S):
                if found := self._silent(worker, order, rank):
                    kill([worker])
                    return found
            answer = worker.answer = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(GRACE_S)
            return failures.died(order.rank, worker.process.exitcode, worker.stacks)
        if isinstance(answer, Returned):
            return answer
        return failures.raised(answer.line, answer.traceback, rank)

    def _silent(self, worker: WorkerProcess, order: Order, rank: int | None) -> Outcome | None:
        """Return the outcome of a process to be given up; None if it may go on.

        A rank that waits for its peers is not: theirs are seen where they run, until even a
        deadlock of all would have been.
        """
        pulse, running_s = worker.pulse(), time.monotonic() - worker.begun
        reason = given_up(order.task, [pulse], running_s)
        if not reason or time.monotonic() < self.patient_until:
            return None
        self.patient_until = time.monotonic() + order.task.budget.timeout_s
        ranks = None if rank is None else [rank]
        found = failures.hung([worker.process.pid], [worker.stacks], reason, ranks)
        waits = rank is not None and not found.traceback
        late = pulse.silent_s > DEADLOCK * order.task.budget.timeout_s
        over = order.task.limit_s is not None and running_s > order.task.limit_s
        return None if waits and not late and not over else found


@dataclass(frozen=True)
class _Here:
    """A picklable function that unpacks work on a node and runs it in a folder there."""

    work: bytes
    folder: Path
    path: tuple[str, ...]

    def __call__(self, _: Task, rank: int) -> Any:
        sys.path += [entry for entry in self.path if entry not in sys.path]
        function, task = unpacked(self.work)
        return function(replace(task, run=self.folder), rank)
