"""One cell in one process: train it, or audit the checkpoints that another process left.

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
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from harness import checkpoint, estimators, images, measure, parallel
from harness.cell import Budget, Cell
from harness.topic import Topic
from harness.training import Diverged, Training, seed_everything

REPLAY = 3
PARITY_STEPS = 2  # an update between them; more, and Adam makes rounding visible


@dataclass(frozen=True)
class Task:
    """What a worker needs to know. run: the folder under which the cell leaves its files."""

    topic: Topic
    cell: Cell
    budget: Budget
    run: Path
    device: str = "cpu"
    world_size: int = 1

    @property
    def folder(self) -> Path:
        """Where the cell's checkpoints go."""
        return self.run / "checkpoints" / self.cell.id

    @property
    def middle(self) -> int:
        """The step whose checkpoint is replayed."""
        return max(1, self.budget.steps // 2)

    @property
    def replayed(self) -> int:
        return min(REPLAY, self.budget.steps - self.middle)


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


def _as_rank(function: Callable[..., Any], task: Task, rank: int, meeting: Path) -> Any:
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
    device = _device(task, rank)
    expected = _single_losses(task, device) if rank == 0 and task.world_size > 1 else []
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
                outcome["checkpoint"]["replayed_digest"] = _digest(training)
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
        outcome |= _measured(task, training.evaluate())
    outcome["baseline"] = _measured(task, _baseline(task.topic, task.cell))["metrics"]
    outcome["samples"] = film.save()
    eval_s = time.perf_counter() - begun
    if outcome["status"] == "done":
        final = _save(task, training, "final")
        outcome["checkpoint"]["final_digest"] = final["digest"]
        outcome["checkpoint"]["metrics"] = outcome["metrics"]
    if expected:
        outcome["parity"] = parity(expected, training)
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


def _measured(task: Task, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    metrics = {name: values[name] for name in task.topic.directions if name in values}
    rest = {name: value for name, value in values.items() if name not in metrics}
    return {"metrics": metrics, "evaluation": rest}


def _baseline(topic: Topic, cell: Cell) -> dict[str, Any]:
    """What is not trained owes nothing to schedule and ranks: measured once in a process."""
    return _baseline_of(topic, replace(cell, schedule="constant", parallel="single"))


@lru_cache(maxsize=64)
def _baseline_of(topic: Topic, cell: Cell) -> dict[str, Any]:
    return topic.baseline(cell)


def parity(expected: list[float], training: Training) -> dict[str, Any]:
    """The largest relative difference of the first losses from ``single``'s."""
    got = [loss.item() for loss in training.losses[: len(expected)]]
    pairs = zip(expected, got, strict=False)
    difference = max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)
    exact = training.cell.parallel in parallel.EXACT
    return {
        "difference": difference,
        "steps": len(expected),
        "exact": exact,
        "equal": difference <= parallel.TOLERANCE,
    }


def _single_losses(task: Task, device: torch.device) -> list[float]:
    reference = Training(task.topic, task.cell, task.budget, device)
    for _ in range(min(PARITY_STEPS, task.budget.steps)):
        reference.advance()
    return [loss.item() for loss in reference.losses]


def audit(task: Task, rank: int, expected: dict[str, Any]) -> dict[str, Any]:
    """The cell's checkpoints, loaded into fresh objects in this fresh process (one for each rank).

    expected: the ``checkpoint`` part of train's outcome. Returns state_equal (what was loaded is
    bit for bit what was saved), resume_equal (so are the parameters after replayed_steps more),
    metrics_equal (evaluating the final checkpoint gives the recorded metrics), bytes, save_s and
    load_s in seconds. An estimator has nothing to resume: None.
    """
    kept = {name: expected[name] for name in ("bytes", "save_s", "replayed_steps")}
    if task.cell.model in task.topic.fits:
        begun = time.perf_counter()
        content = checkpoint.load(task.folder / "final.pt")
        estimator = estimators.loads(content["estimator"])
        return kept | {
            "load_s": time.perf_counter() - begun,
            "state_equal": estimators.digest(estimator) == expected["final_digest"],
            "resume_equal": None,
            "metrics_equal": task.topic.evaluate({"model": estimator}, task.cell)
            == expected["metrics"],
        }
    device = _device(task, rank)
    training = Training(task.topic, task.cell, task.budget, device, rank, task.world_size)
    if task.world_size > 2:  # DDP regroups its sums after the first step: be where training was
        training.advance()
    begun = time.perf_counter()
    training.restore(checkpoint.load(task.folder / "middle.pt"))
    load_s = time.perf_counter() - begun
    state_equal = checkpoint.digest(training.snapshot()) == expected["digest"]
    training.run(task.middle + task.replayed)
    resume_equal = _digest(training) == expected["replayed_digest"]
    if rank != 0:
        return {}
    training.restore(checkpoint.load(task.folder / "final.pt"))
    return kept | {
        "load_s": load_s,
        "state_equal": state_equal,
        "resume_equal": resume_equal,
        "metrics_equal": _measured(task, training.evaluate())["metrics"] == expected["metrics"],
    }


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


def _digest(training: Training) -> str:
    return checkpoint.digest({n: net.state_dict() for n, net in training.networks.items()})


def _device(task: Task, rank: int) -> torch.device:
    if task.device != "cuda":
        return torch.device(task.device)
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
