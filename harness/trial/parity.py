"""Is a parallel configuration's training single's? Its first steps beside single's."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.axes import parallel
from harness.training.agreement import largest_difference
from harness.training.loop import Diverged, Training
from harness.trial.task import Task, device_of, training_of

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
    apart = [largest_difference(expected.losses, got.losses)]
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
