"""Compare a parallel configuration's first steps with those of a single process (note 96)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from torch import Tensor

from harness.axes import parallel
from harness.training.agreement import largest_difference
from harness.training.loop import Diverged, Training
from harness.trial.outcome import Parity
from harness.trial.task import Task, device_of, training_of

PARITY_STEPS = 2  # an update between them; more, and Adam makes rounding visible


@dataclass(frozen=True)
class FirstSteps:
    """A training's first losses, and the first player's gradient at the first step."""

    losses: list[float]
    gradients: list[Tensor]


def applies(task: Task) -> bool:
    """Whether a task's training could differ from a single process's, so that it is compared."""
    return task.cell.parallel != "single" or task.accumulate > 1


def first_steps(task: Task, rank: int) -> FirstSteps:
    """Train a task's cell afresh for PARITY_STEPS steps; all ranks of the task call it together."""
    training = training_of(task, device_of(task, rank), rank, watched_steps=1)
    with contextlib.suppress(Diverged):  # the training itself will say so
        training.run(min(PARITY_STEPS, task.budget.steps))
    return first_of(training)


def first_steps_alone(task: Task) -> FirstSteps:
    """Train the task's cell under ``single`` for PARITY_STEPS steps, with the same global batch."""
    cell = replace(task.cell, parallel="single")
    return first_steps(replace(task, cell=cell, world_size=1, accumulate=1), 0)


def first_of(training: Training) -> FirstSteps:
    """Return the first steps of a training that watched its first one and has made PARITY_STEPS."""
    losses = [loss.item() for loss in training.losses[:PARITY_STEPS]]
    return FirstSteps(losses, training.gradients)


def compare(alone: FirstSteps, got: FirstSteps, configuration: str) -> Parity:
    """Return how far a configuration's first steps are from ``single``'s, and if that is allowed.

    Losses are compared relatively, gradients by the relative L2 norm of their difference: which
    shows a wrong shard or average at once.
    """
    apart = [largest_difference(alone.losses, got.losses)]
    for a, b in zip(alone.gradients, got.gradients, strict=True):
        apart.append(((a - b).norm() / a.norm().clamp_min(1e-12)).item())
    exact = configuration in parallel.EXACT
    return Parity(
        difference=max(apart),
        steps=len(alone.losses),
        exact=exact,
        equal=max(apart) <= parallel.TOLERANCE if exact else None,
        reason=parallel.INEXACT.get(configuration, ""),
    )
