"""Training one cell: its middle and final checkpoints, its metrics, its cost."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

from harness import checkpoint
from harness.axes import parallel
from harness.cell import Cell
from harness.checkpoint import estimators
from harness.checkpoint.tree import CheckpointError
from harness.checkpoint.tree import digest as digest_of
from harness.training.loop import Diverged, Training
from harness.training.random_state import seed_everything
from harness.training.topic import Topic
from harness.trial import cost, parity, samples
from harness.trial.task import Task, device_of, digest, measured, training_of


def train(task: Task, rank: int = 0) -> dict[str, Any]:
    """Train a cell and leave its middle and final checkpoints.

    Returns the fields of a Record that training decides. All ranks train; rank 0 measures parity,
    evaluates, saves and reports.
    """
    started = time.perf_counter()
    if task.cell.model in task.topic.fits:
        return _fit(task, started)
    device = device_of(task, rank)
    if rank == 0 and not task.attempt:
        checkpoint.remove(task.folder / "middle.pt")
    expected = got = None
    if rank == 0 and (task.cell.parallel != "single" or task.accumulate > 1):
        alone = replace(task.cell, parallel="single")
        expected = parity.first_steps(replace(task, cell=alone, world_size=1, accumulate=1), 0)
    if task.attempt:  # what goes on from a checkpoint does not show its first steps
        got = parity.first_steps(task, rank)
    training = training_of(task, device, rank, watch=1)
    outcome: dict[str, Any] = {"status": "done"}
    film = samples.Film(task, training)
    audit_s = time.perf_counter() - started if expected else 0.0
    saved = _resume(task, training) if task.attempt else None
    with cost.peak_memory(device) as memory:
        begun = time.perf_counter()
        try:
            training.run(task.middle, film.look)
            pause = time.perf_counter()
            outcome["checkpoint"] = saved or _save(task, training, "middle")
            aside = time.perf_counter() - pause
            training.run(task.middle + task.replayed, film.look)
            pause = time.perf_counter()
            outcome["checkpoint"]["replayed_digest"] = digest(training)
            aside += time.perf_counter() - pause
            training.run(task.budget.steps, film.look)
            cost.synchronise(device)
        except Diverged as error:
            outcome |= {"status": "diverged", "reason": str(error), "checkpoint": {}}
            aside = 0.0
        train_s = time.perf_counter() - begun - aside - film.seconds
    begun = time.perf_counter()
    if outcome["status"] == "done":
        outcome |= measured(task, training.evaluate())
    outcome["samples"] = film.save()
    eval_s = time.perf_counter() - begun
    if outcome["status"] == "done":
        outcome["checkpoint"]["final_digest"] = _save(task, training, "final")["digest"]
        outcome["checkpoint"]["metrics"] = outcome["metrics"]
    if rank != 0:
        return {}
    begun = time.perf_counter()
    outcome["baseline"] = measured(task, _baseline(task.topic, task.cell))["metrics"]
    eval_s += time.perf_counter() - begun
    if expected:
        first = got or parity.first(training)
        outcome["parity"] = parity.parity(expected, first, task.cell.parallel)
    outcome["curve"] = training.curve()
    outcome["cost"] = {
        "wall_s": time.perf_counter() - started,
        "train_s": train_s,
        "eval_s": eval_s,
        "audit_s": aside + audit_s,
        "step_ms": 1e3 * train_s / max(1, training.step),
        "samples_per_s": task.budget.batch_size * training.step / train_s,
        "peak_memory_mb": memory(),
        "parameters": float(cost.parameters(training.networks)),
    }
    return outcome


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
    save_s = time.perf_counter() - begun
    return _saved(task, content, size, save_s)


def _saved(task: Task, content: dict[str, Any], size: int, save_s: float) -> dict[str, Any]:
    content = parallel.whole(content)
    return {
        "digest": digest_of(content) if parallel.is_first() else "",
        "bytes": size,
        "save_s": save_s,
        "replayed_steps": task.replayed,
    }


def _resume(task: Task, training: Training) -> dict[str, Any] | None:
    """Go on from the middle checkpoint of an attempt that failed, if it came that far."""
    path = task.folder / "middle.pt"
    try:
        content = checkpoint.load(path)
    except CheckpointError:
        return None
    if content["cell"] != task.cell.id:
        return None
    training.restore(content)
    files = path.iterdir() if path.is_dir() else [path]
    return _saved(task, training.snapshot(), sum(file.stat().st_size for file in files), 0.0)
