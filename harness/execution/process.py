"""A warm worker process: its own session, one thread, forked from a server that imported torch.

It stays warm from task to task; every task makes and seeds all that it uses.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from harness.axes import parallel
from harness.execution import failures
from harness.trial.task import Task

Function = Callable[[Task, int], Any]


@dataclass(frozen=True)
class Returned:
    """A process's answer: what the function returned; None from other ranks than 0."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """A process's answer: what the function raised. at: time.monotonic seconds."""

    line: str
    traceback: str
    at: float


Answer = Returned | Raised


def packed(function: Function, task: Task) -> bytes:
    """Pickle a function and its task; a topic of a conftest or a test goes with its code."""
    module = sys.modules[type(task.topic).__module__]
    if module.__name__.split(".")[0] == "harness":
        return cloudpickle.dumps((function, task))
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((function, task))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def main(pipe: connection.Connection, stacks: Path) -> None:
    """Run a worker process: receive (packed work, rank, meeting URL) and answer, until told to end.

    An error is the last thing it answers. stacks: a file to which it writes its threads' frames
    when signalled.
    """
    os.setsid()
    faulthandler.register(failures.SIGNAL, file=open(stacks, "w"))  # noqa: SIM115  (for ever)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    gc.freeze()
    try:
        while True:
            work, rank, meeting = pipe.recv()
            function, task = cloudpickle.loads(work)
            value = _as_rank(function, task, rank, meeting)
            pipe.send(Returned(value if rank == 0 else None))
            del work, function, task, value
            _tidy()
    except EOFError:
        return
    except BaseException as error:
        line = f"{type(error).__name__}: {error}"
        pipe.send(Raised(line, traceback.format_exc(), time.monotonic()))


def _tidy() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _as_rank(function: Function, task: Task, rank: int, meeting: str) -> Any:
    if not parallel.is_distributed(task.cell.parallel):
        return function(task, 0)
    with parallel.process_group(rank, task.world_size, meeting, task.budget.timeout_s):
        return function(task, rank)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
