"""A pool of warm worker processes on this machine, reused from task to task."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from harness.execution import process, temporary
from harness.execution.process import Returned
from harness.training import heartbeat
from harness.trial import device

PRELOAD = ("pytest", "harness.execution.preload")
GRACE_S = 2.0
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(eq=False)
class WorkerProcess:
    """A worker process, idle or at work, and the pipe to it.

    stacks: the file to which it writes its threads' stacks when signalled, or when it crashes.
    answer: to the work it was given last, None until it is there. rank: the first it has been, and
    stays: torch remembers where a rank's shards lie. gpu: the one it computes on, since it keeps
    memory there; None: it sees none. heart: the memory in which its training beats. begun: when its
    work began, in ``time.monotonic`` seconds.
    """

    process: Any
    pipe: connection.Connection
    stacks: Path
    heart: MutableSequence[float]
    answer: process.Answer | None = None
    rank: int | None = None
    gpu: int | None = None
    begun: float = 0.0

    def begin(self, work: bytes, rank: int, meeting: str) -> None:
        """Send the process its packed work, its rank, and the URL where the ranks meet.

        If it has died, reading from its pipe will raise EOFError; nothing is raised here.
        """
        self.answer, self.begun = None, time.monotonic()
        heartbeat.clear(self.heart)
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send((work, rank, meeting))

    def pulse(self) -> heartbeat.Pulse:
        """Return how far its work is, and since when it has not advanced."""
        return heartbeat.pulse(self.heart, self.begun)


class WorkerPool:
    """Keeps idle worker processes by role (train, audit, call), and a temporary folder.

    A process that trains never audits: a checkpoint is loaded where nothing of its training ever
    was. preload: modules that the server they are forked from imports. fresh: none is forked, each
    is an interpreter of its own, whose memory lies where no other's does.
    """

    def __init__(self, preload: Sequence[str] = PRELOAD, fresh: bool = False) -> None:
        self.folder, self._lock = temporary.make()
        self._idle: dict[str, list[WorkerProcess]] = defaultdict(list)
        method: Literal["spawn", "forkserver"] = "spawn" if fresh else "forkserver"
        self._context: Any = multiprocessing.get_context(method)
        self._context.set_forkserver_preload(list(preload))

    def take(self, role: str, rank: int | None = None, gpu: int | None = None) -> WorkerProcess:
        """Return an idle process of a role, or a new one.

        rank: the rank it will be; none that was another rank is taken then. gpu: the GPU it will be
        on, or None: then it sees no GPU, since parts of PyTorch use one that they see.
        """
        idle = self._idle[role] = [w for w in self._idle[role] if w.process.is_alive()]
        fit = [w for w in idle if rank is None or w.rank in (None, rank)]
        fit = [w for w in fit if w.gpu == gpu]
        if fit:
            worker = max(fit, key=lambda w: w.rank == rank)
            idle.remove(worker)
        else:
            worker = self._start(gpu)
        worker.rank = rank if worker.rank is None else worker.rank
        return worker

    def give_back(self, role: str, workers: Iterable[WorkerProcess]) -> None:
        """Keep processes that have answered for the next task of that role; kill spoiled ones."""
        workers = list(workers)
        clean = [w for w in workers if isinstance(w.answer, Returned) and not w.answer.spoiled]
        self._idle[role] += clean
        kill([worker for worker in workers if worker not in clean])

    def end_idle(self) -> None:
        """Kill the idle processes that are on a GPU, for each holds memory of it."""
        for role, idle in self._idle.items():
            kill([worker for worker in idle if worker.gpu is not None])
            self._idle[role] = [worker for worker in idle if worker.gpu is None]

    def close(self) -> None:
        """Kill the idle processes and remove the temporary folder."""
        kill([worker for idle in self._idle.values() for worker in idle])
        self._idle.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _start(self, gpu: int | None) -> WorkerProcess:
        """Start a new single-threaded process, which sees all GPUs or none."""
        ours, theirs = self._context.Pipe()
        stacks = self.folder / f"stacks-{uuid.uuid4().hex}"
        heart = self._context.RawArray("d", heartbeat.SLOTS)
        work = (theirs, stacks, heart, "" if gpu is None else os.environ.get(device.VISIBLE))
        made = self._context.Process(target=process.main, args=work, daemon=True)
        with _one_thread(), _without_main():
            made.start()
        theirs.close()
        return WorkerProcess(made, ours, stacks, heart, gpu=gpu)


def kill(workers: Iterable[WorkerProcess]) -> None:
    """Kill processes and all that they started: SIGTERM first, SIGKILL after a grace period."""
    processes = [worker.process for worker in workers]
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = [one for one in processes if one.is_alive()]
        for one in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(one.pid, number)
        limit = time.monotonic() + GRACE_S
        for one in alive:
            one.join(max(0.0, limit - time.monotonic()))
    for one in processes:  # children outlive a process that died by itself, or ignore SIGTERM
        try:
            os.kill(one.pid, 0)
        except ProcessLookupError:  # so its number is still its group's alone
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(one.pid, signal.SIGKILL)
        except PermissionError:
            pass


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Set the environment's thread counts to 1 for the block, for processes started in it."""
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


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module for the block: processes started in it would run a script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
