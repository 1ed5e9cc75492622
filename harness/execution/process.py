"""A warm worker process: its own session, one thread, forked from a server that imported torch.

It stays warm from task to task; every task makes and seeds all that it uses.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from harness.axes import parallel
from harness.execution import failures
from harness.trial.task import Task


def main(pipe: connection.Connection, stacks: Path) -> None:
    """The process's entry. Receives (pickled function and task, rank, meeting place); answers
    ("ok", outcome) or, as the last thing it does, ("error", one line, traceback, when).

    stacks: a file to which it says where it is when signalled.
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
            outcome = _as_rank(function, task, rank, meeting)
            pipe.send(("ok", outcome if rank == 0 else None))
            del work, function, task, outcome
            _tidy()
    except EOFError:
        return
    except BaseException as error:
        line, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        pipe.send(("error", line, trace, time.monotonic()))


def _tidy() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _as_rank(function: Callable[..., Any], task: Task, rank: int, meeting: str) -> Any:
    if not parallel.is_distributed(task.cell.parallel):
        return function(task, 0)
    with parallel.process_group(rank, task.world_size, meeting, task.budget.timeout_s):
        return function(task, rank)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
