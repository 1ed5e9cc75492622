"""Warm worker processes on this machine, kept from task to task."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from harness.execution import process

PRELOAD = ("pytest", "harness.execution.preload")
GRACE_S = 2.0
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(eq=False)
class WorkerProcess:
    """A process that waits for work or is at it.

    stacks: the file to which it writes where it is. answer: to the work it was given last, None
    until it is there. rank: the one it has been, and stays: torch remembers where a rank's shards
    lie.
    """

    process: Any
    pipe: connection.Connection
    stacks: Path
    answer: process.Answer | None = None
    rank: int | None = None

    def begin(self, work: bytes, rank: int, meeting: str) -> None:
        """Send packed work to it; if it died meanwhile, its pipe ends and that is heard there."""
        self.answer = None
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send((work, rank, meeting))


class WorkerPool:
    """Keeps warm processes by role while they are idle, and a folder for temporary files.

    A process that trains never audits: a checkpoint is loaded where nothing of its training ever
    was. preload: modules that the server they are forked from imports.
    """

    def __init__(self, preload: Sequence[str] = PRELOAD) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="decathlon-"))
        self._idle: dict[str, list[WorkerProcess]] = defaultdict(list)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))

    def take(self, role: str, rank: int | None = None) -> WorkerProcess:
        """Take an idle process of that role or start one; as a rank, none that was another rank."""
        idle = self._idle[role] = [w for w in self._idle[role] if w.process.is_alive()]
        fit = [w for w in idle if rank is None or w.rank in (None, rank)]
        if not fit:
            return self._start(rank)
        worker = max(fit, key=lambda w: w.rank == rank)
        idle.remove(worker)
        worker.rank = rank if worker.rank is None else worker.rank
        return worker

    def give_back(self, role: str, workers: Iterable[WorkerProcess]) -> None:
        """Keep processes that have answered for the next task of that role."""
        self._idle[role] += workers

    def close(self) -> None:
        """Kill the idle ones and remove the folder."""
        kill([worker for idle in self._idle.values() for worker in idle])
        self._idle.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, rank: int | None) -> WorkerProcess:
        ours, theirs = self._context.Pipe()
        stacks = self.folder / f"stacks-{uuid.uuid4().hex}"
        made = self._context.Process(target=process.main, args=(theirs, stacks), daemon=True)
        with _one_thread():
            made.start()
        theirs.close()
        return WorkerProcess(made, ours, stacks, rank=rank)


def kill(workers: Iterable[WorkerProcess]) -> None:
    """End processes and all that they started: asked first, then by force."""
    processes = [worker.process for worker in workers]
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = [one for one in processes if one.is_alive()]
        for one in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(one.pid, number)
        limit = time.monotonic() + GRACE_S
        for one in alive:
            one.join(max(0.0, limit - time.monotonic()))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
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
