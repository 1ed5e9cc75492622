"""One cell in one process: the process, and the training. ``audit`` is what comes after it.

The process has its own session and one thread, is forked from a server that has imported torch, and
stays warm from task to task; every task makes and seeds all that it uses.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from harness import checkpoint, estimators, images, measure, parallel
from harness.cell import Cell
from harness.execution import audit
from harness.execution.task import Task, device_of, digest, measured
from harness.topic import Topic
from harness.training import Diverged, Training, seed_everything


def main(pipe: connection.Connection) -> None:
    """The process's entry. Receives (pickled function and task, rank, meeting place); answers
    ("ok", outcome) or, as the last thing it does, ("error", one line, traceback).
    """
    os.setsid()
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
        pipe.send(("error", f"{type(error).__name__}: {error}", traceback.format_exc()))


def _tidy() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _as_rank(function: Callable[..., Any], task: Task, rank: int, meeting: Path | str) -> Any:
    if task.world_size == 1:
        return function(task, 0)
    with parallel.process_group(rank, task.world_size, meeting, task.budget.timeout_s):
        return function(task, rank)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def train(task: Task, rank: int = 0) -> dict[str, Any]:
    """Train a cell and leave its middle and final checkpoints.

    Returns the fields of a Record that training decides. All ranks train; rank 0 measures parity,
    evaluates, saves and reports.
    """
    started = time.perf_counter()
    if task.cell.model in task.topic.fits:
        return _fit(task, started)
    device = device_of(task, rank)
    expected = audit.single_losses(task, device) if rank == 0 and task.world_size > 1 else []
    training = Training(task.topic, task.cell, task.budget, device, rank, task.world_size)
    outcome: dict[str, Any] = {"status": "done"}
    film = _Film(task, training)
    audit_s = time.perf_counter() - started if expected else 0.0
    with measure.peak_memory(device) as memory:
        begun = time.perf_counter()
        try:
            training.run(task.middle, film.look)
            pause = time.perf_counter()
            if rank == 0:
                outcome["checkpoint"] = _save(task, training, "middle")
            aside = time.perf_counter() - pause
            training.run(task.middle + task.replayed, film.look)
            pause = time.perf_counter()
            if rank == 0:
                outcome["checkpoint"]["replayed_digest"] = digest(training)
            aside += time.perf_counter() - pause
            training.run(task.budget.steps, film.look)
            measure.synchronise(device)
        except Diverged as error:
            outcome |= {"status": "diverged", "reason": str(error), "checkpoint": {}}
            aside = 0.0
        train_s = time.perf_counter() - begun - aside - film.seconds
    if rank != 0:
        return {}
    begun = time.perf_counter()
    if outcome["status"] == "done":
        outcome |= measured(task, training.evaluate())
    outcome["baseline"] = measured(task, _baseline(task.topic, task.cell))["metrics"]
    outcome["samples"] = film.save()
    eval_s = time.perf_counter() - begun
    if outcome["status"] == "done":
        final = _save(task, training, "final")
        outcome["checkpoint"]["final_digest"] = final["digest"]
        outcome["checkpoint"]["metrics"] = outcome["metrics"]
    if expected:
        outcome["parity"] = audit.parity(expected, training)
    outcome["curve"] = training.curve()
    outcome["cost"] = {
        "wall_s": time.perf_counter() - started,
        "train_s": train_s,
        "eval_s": eval_s,
        "audit_s": aside + audit_s,
        "step_ms": 1e3 * train_s / max(1, training.step),
        "samples_per_s": task.budget.batch_size * training.step / train_s,
        "peak_memory_mb": memory(),
        "parameters": float(measure.parameters(training.networks)),
    }
    return outcome


class _Film:
    """What a generator makes of the same noise, at five steps of its training and in the end."""

    def __init__(self, task: Task, training: Training) -> None:
        self.task, self.training = task, training
        self.steps = {task.budget.steps * part // 4 for part in range(5)}
        self.rows: list[torch.Tensor] = []
        self.seconds = 0.0  # of the training's time
        self.look(0)
        self.seconds = 0.0

    def look(self, step: int) -> None:
        if not self.task.topic.generates or self.training.rank or step not in self.steps:
            return
        begun = time.perf_counter()
        self.rows.append(self.training.sample(8))
        self.seconds += time.perf_counter() - begun

    def save(self) -> dict[str, str]:
        if not self.rows:
            return {}
        name = str(Path("samples", f"{self.task.cell.id}.png"))
        images.save_film(self.task.run / name, self.rows, self.training.sample(64))
        return {"grid": name}


def _baseline(topic: Topic, cell: Cell) -> dict[str, Any]:
    """What is not trained owes nothing to schedule and ranks: measured once in a process."""
    return _baseline_of(topic, replace(cell, schedule="constant", parallel="single"))


@lru_cache(maxsize=64)
def _baseline_of(topic: Topic, cell: Cell) -> dict[str, Any]:
    return topic.baseline(cell)


def _fit(task: Task, started: float) -> dict[str, Any]:
    seed_everything(task.cell.seed)
    begun = time.perf_counter()
    estimator = task.topic.fit(task.cell)
    train_s = time.perf_counter() - begun
    begun = time.perf_counter()
    metrics = task.topic.evaluate({"model": estimator}, task.cell)
    baseline = task.topic.baseline(task.cell)
    eval_s = time.perf_counter() - begun
    begun = time.perf_counter()
    content = {"cell": task.cell.id, "estimator": estimators.dumps(estimator)}
    size = checkpoint.save(task.folder / "final.pt", content)
    return {
        "status": "done",
        "metrics": metrics,
        "baseline": baseline,
        "checkpoint": {
            "final_digest": estimators.digest(estimator),
            "metrics": metrics,
            "bytes": size,
            "save_s": time.perf_counter() - begun,
            "replayed_steps": 0,
        },
        "cost": {
            "wall_s": time.perf_counter() - started,
            "train_s": train_s,
            "eval_s": eval_s,
            "audit_s": 0.0,
        },
    }


def _save(task: Task, training: Training, name: str) -> dict[str, Any]:
    content = training.snapshot()
    begun = time.perf_counter()
    size = checkpoint.save(task.folder / f"{name}.pt", content)
    return {
        "digest": checkpoint.digest(content),
        "bytes": size,
        "save_s": time.perf_counter() - begun,
        "replayed_steps": task.replayed,
    }
