"""Two questions about a training: is a parallel one single's, and do its checkpoints come back?"""

from __future__ import annotations

import time
from typing import Any

import torch

from harness import checkpoint, estimators, parallel
from harness.execution.task import Task, device_of, digest, measured
from harness.training import Training

PARITY_STEPS = 2  # an update between them; more, and Adam makes rounding visible


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


def single_losses(task: Task, device: torch.device) -> list[float]:
    """The first losses of the same cell without ranks."""
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
    device = device_of(task, rank)
    training = Training(task.topic, task.cell, task.budget, device, rank, task.world_size)
    if task.world_size > 2:  # DDP regroups its sums after the first step: be where training was
        training.advance()
    begun = time.perf_counter()
    training.restore(checkpoint.load(task.folder / "middle.pt"))
    load_s = time.perf_counter() - begun
    state_equal = checkpoint.digest(training.snapshot()) == expected["digest"]
    training.run(task.middle + task.replayed)
    resume_equal = digest(training) == expected["replayed_digest"]
    if rank != 0:
        return {}
    training.restore(checkpoint.load(task.folder / "final.pt"))
    return kept | {
        "load_s": load_s,
        "state_equal": state_equal,
        "resume_equal": resume_equal,
        "metrics_equal": measured(task, training.evaluate())["metrics"] == expected["metrics"],
    }
