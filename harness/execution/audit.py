"""Two questions about a training: is a parallel one single's, and do its checkpoints come back?"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness import checkpoint, estimators, metrics, parallel
from harness.content import digest as digest_of
from harness.execution.task import Task, device_of, digest, measured, training_of
from harness.training import Diverged, Training

PARITY_STEPS = 2  # an update between them; more, and Adam makes rounding visible


@dataclass(frozen=True)
class First:
    """A training's first losses, and the first player's gradient at the first step."""

    losses: list[float]
    gradients: list[Tensor]


def parity(expected: First, got: First, configuration: str) -> dict[str, Any]:
    """How far a configuration's first steps are from ``single``'s at the same global batch.

    difference is the largest relative one, of the losses and of the first gradient (in L2 norm),
    which shows a wrong shard or average at once. equal: whether that is rounding; None where the
    configuration is inexact by design, as ``reason`` then says.
    """
    apart = [metrics.largest_difference(expected.losses, got.losses)]
    for a, b in zip(expected.gradients, got.gradients, strict=True):
        apart.append(((a - b).norm() / a.norm().clamp_min(1e-12)).item())
    exact = configuration in parallel.EXACT
    return {
        "difference": max(apart),
        "steps": len(expected.losses),
        "exact": exact,
        "equal": max(apart) <= parallel.TOLERANCE if exact else None,
        "reason": parallel.INEXACT.get(configuration, ""),
    }


def first(training: Training) -> First:
    """What parity compares of a training that watched its first step and has made PARITY_STEPS."""
    return First([loss.item() for loss in training.losses[:PARITY_STEPS]], training.gradients)


def first_steps(task: Task, rank: int) -> First:
    """Those of a training that is made for it, on every rank of the task."""
    training = training_of(task, device_of(task, rank), rank, watch=1)
    with contextlib.suppress(Diverged):  # the training itself will say so
        training.run(min(PARITY_STEPS, task.budget.steps))
    return first(training)


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
    training = training_of(task, device, rank)
    begun = time.perf_counter()
    training.restore(checkpoint.load(task.folder / "middle.pt"))
    load_s = time.perf_counter() - begun
    state_equal = digest_of(parallel.whole(training.snapshot())) == expected["digest"]
    training.run(task.middle + task.replayed)
    resume_equal = digest(training) == expected["replayed_digest"]
    training.restore(checkpoint.load(task.folder / "final.pt"))
    values = training.evaluate()
    if rank != 0:
        return {}
    return kept | {
        "load_s": load_s,
        "state_equal": state_equal,
        "resume_equal": resume_equal,
        "metrics_equal": measured(task, values)["metrics"] == expected["metrics"],
    }
