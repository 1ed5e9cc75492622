"""The main loop of a worker process: receive a function and a task, run it, answer.

The process has its own session and one thread, is forked from a server that imported torch, and
stays warm from task to task; every task makes and seeds all that it uses.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, replace
from multiprocessing import connection, current_process, parent_process
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from harness import packing
from harness.axes import parallel, registry
from harness.execution import failures, hygiene
from harness.sources import is_own
from harness.training import heartbeat
from harness.trial import device
from harness.trial.task import Task

Function = Callable[[Task, int], Any]
AT_WORK = threading.Event()  # set in a worker process


@dataclass(frozen=True)
class Returned:
    """A worker's answer on success: the function's value on rank 0, None on other ranks.

    spoiled: what the task left changed in the process, which is then not used again.
    """

    value: Any
    spoiled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raised:
    """A worker's answer on failure: the exception. at: ``time.monotonic`` seconds."""

    line: str
    traceback: str
    at: float


Answer = Returned | Raised


def packed(function: Callable[..., Any], task: Task) -> bytes:
    """Pickle a function and its task for a worker process.

    The classes of a topic and of what was brought to the axes are pickled with their code where
    they are from outside this package (a conftest, a test, a script or notebook), and so are the
    functions that the topic depends on, unless they are installed. Raises UsageError if they cannot
    be.
    """
    what = f"topic {task.topic.name}"
    names = dict.fromkeys(type(thing).__module__ for thing in (task.topic, *task.own))
    names |= dict.fromkeys(filter(is_own, (kind.__module__ for kind in task.topic.depends_on())))
    outside = [sys.modules[name] for name in names if name.split(".")[0] != "harness"]
    for module in outside:
        cloudpickle.register_pickle_by_value(module)
    try:
        return packing.dumps((function, task), what)
    finally:
        for module in outside:
            cloudpickle.unregister_pickle_by_value(module)


def unpacked(work: bytes) -> tuple[Callable[..., Any], Task]:
    """Return a packed function and its task, and have on the axes what the task brings."""
    function, task = cloudpickle.loads(work)
    registry.take(task.own)
    return function, task


def main(
    pipe: connection.Connection, stacks: Path, heart: MutableSequence[float], gpus: str | None
) -> None:
    """Run a worker process: answer each (packed work, rank, meeting URL) that ``pipe`` brings.

    It ends when the pipe does; after an error, or if the task has spoiled it, it is to be killed.
    What a task runs in it may start processes of its own, such as a DataLoader's: they end with it.
    stacks: a file to which it writes its threads' frames when signalled, or when it crashes. heart:
    memory shared with the parent, to beat in. gpus: those it sees, as CUDA_VISIBLE_DEVICES names
    them (empty: none; None: all); the server it is forked from may have been started with others.
    """
    device.show(gpus)
    os.setsid()
    AT_WORK.set()
    current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # may have children
    written = open(stacks, "w")  # noqa: SIM115  (for ever)
    faulthandler.register(failures.SIGNAL, file=written)
    faulthandler.enable(file=written)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    heartbeat.beat_in(heart)
    gc.freeze()
    before = hygiene.surroundings()
    try:
        while True:
            work, rank, meeting = pipe.recv()
            function, task = unpacked(work)
            answer = _as_rank(function, task, rank, meeting, pipe.send)
            del work, function, task
            if answer is not None:
                _tidy()
                pipe.send(replace(answer, spoiled=tuple(hygiene.spoiled(before))))
            del answer
    except EOFError:
        return
    except BaseException as error:
        pipe.send(_raised(error))


def _tidy() -> None:
    """Free what the last task left: garbage, and cached GPU memory."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _as_rank(
    function: Function, task: Task, rank: int, meeting: str, tell: Callable[[Raised], None]
) -> Returned | None:
    """Run the function, in a process group if the cell is distributed, and return the answer.

    An exception is told at once, and None returned. To leave a group makes gloo's peers fail too,
    and nccl waits for all of them, who may wait for this one.
    """
    with device.repeatable(task.device):
        if not parallel.is_distributed(task.cell.parallel):
            return _answer(function, task, 0, tell)
        with parallel.process_group(rank, task.world_size, meeting, task.device):
            return _answer(function, task, rank, tell)


def _answer(
    function: Function, task: Task, rank: int, tell: Callable[[Raised], None]
) -> Returned | None:
    """Run the function, and return its value as an answer, or tell its exception."""
    try:
        value = function(task, rank)
    except BaseException as error:
        tell(_raised(error))
        return None
    return Returned(value if rank == 0 else None)


def _raised(error: BaseException) -> Raised:
    """Return an exception as an answer, with the time now."""
    at = time.monotonic()
    try:
        text = str(error)
    except Exception:
        text = "(cannot be printed)"
    trace = "".join(traceback.format_exception(error))
    return Raised(f"{type(error).__name__}: {text}", trace, at)


def _die_with_parent() -> None:
    """Wait for the parent process to end, and then kill this one and all that it started."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
