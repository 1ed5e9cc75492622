"""Is a parallel configuration's training single's? Its first steps beside single's."""

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
    """Whether the task's training could differ from one in a single process."""
    return task.cell.parallel != "single" or task.accumulate > 1


def first_steps(task: Task, rank: int) -> FirstSteps:
    """Make a training's first steps and return them; all ranks of the task call it together."""
    training = training_of(task, device_of(task, rank), rank, watched_steps=1)
    with contextlib.suppress(Diverged):  # the training itself will say so
        training.run(min(PARITY_STEPS, task.budget.steps))
    return first_of(training)


def first_steps_alone(task: Task) -> FirstSteps:
    """Make the first steps of the task's cell under ``single``, at the same global batch."""
    cell = replace(task.cell, parallel="single")
    return first_steps(replace(task, cell=cell, world_size=1, accumulate=1), 0)


def first_of(training: Training) -> FirstSteps:
    """The first steps of a training that watched its first one and has made PARITY_STEPS."""
    losses = [loss.item() for loss in training.losses[:PARITY_STEPS]]
    return FirstSteps(losses, training.gradients)


def compare(alone: FirstSteps, got: FirstSteps, configuration: str) -> Parity:
    """How far a configuration's first steps are from ``single``'s, and whether that is allowed.

    Of losses relatively, of gradients in L2 norm: which shows a wrong shard or average at once.
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
