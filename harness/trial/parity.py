"""Compare first steps with those of a single process (note 96) in full float32."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.axes import parallel
from harness.axes.precision import TOLERANCES
from harness.cell import FP32
from harness.training.loop import Diverged
from harness.trial import buffers
from harness.trial.device import device_of
from harness.trial.draws import Draws
from harness.trial.outcome import Parity
from harness.trial.task import Task, training_of

STEPS = 2  # an update between them
STEPS_OF = {  # until a loss has seen what makes the configuration inexact
    "ddp_powersgd": parallel.COMPRESS_FROM + 2,
    "local_sgd": parallel.AVERAGE_EVERY + 1,
}
PRECISE = {  # why first steps may be further off than a precision allows
    "tf32": "tf32 is too coarse here",
    "bf16": "bf16 is too coarse here",
    "compiled": "what torch.compile made of a network computes something else",
}
EPSILON = 1e-4  # of Adam and its like, at least: at 1e-8 a gradient that is mere rounding is a step
LEAST = 1e-3  # a loss nearer to zero, where its terms cancel, is compared as if it were this


@dataclass(frozen=True)
class FirstSteps:
    """A training's first losses, and the first player's gradient at the first step.

    layers: those that make of a batch's parts something else than of the whole batch, with what is
    each part's own. Of a single process, layers and objectives that drew random numbers.
    buffers: what the first step made of those that it changed.
    """

    losses: list[float]
    gradients: list[Tensor]
    layers: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    buffers: buffers.Buffers = field(default_factory=dict)


def applies(task: Task) -> bool:
    """Whether a task's training could differ from a single process's, so that it is compared."""
    plain = task.cell.parallel == "single" and task.cell.precision == FP32
    return not plain or task.accumulate > 1


def measure(task: Task, rank: int) -> Parity | None:
    """Compare a task's first steps with those of ``single`` in fp32 on the same global batches.

    All ranks of the task call it together; only rank 0 returns what was found.
    """
    got = first_steps(task, rank)
    if rank != 0:
        return None
    cell = replace(task.cell, parallel="single", precision=FP32)
    single = replace(task, cell=cell, world_size=1, accumulate=1)
    return compare(first_steps(single, 0, steps_of(task.cell.parallel)), got, task)


def first_steps(task: Task, rank: int, steps: int | None = None) -> FirstSteps:
    """Train a task's cell afresh for its first steps; all ranks of the task call it together.

    steps: how many, by default those that its configuration is compared by. Optimizers that divide
    by a gradient's size have an epsilon of at least EPSILON here.
    """
    training = training_of(task, device_of(task, rank), rank, watched_steps=1)
    for optimizer in training.optimizers.values():
        for group in optimizer.param_groups:
            if isinstance(group.get("eps"), float):
                group["eps"] = max(group["eps"], EPSILON)
    watch = buffers.Watch(training)
    draws = None if applies(task) else Draws(training)
    with contextlib.suppress(Diverged):  # the training itself will say so
        training.run(min(steps or steps_of(task.cell.parallel), task.budget.steps))
    losses = [loss.item() for loss in training.losses]
    found = FirstSteps(losses, training.gradients, buffers=watch.changed)
    if draws:
        return replace(found, layers=(*draws.layers,), objectives=(*draws.objectives,))
    return replace(found, layers=(*parallel.shared_apart(training.networks, task.accumulate),))


def steps_of(configuration: str) -> int:
    """Return by how many first steps a configuration is compared with ``single``."""
    return STEPS_OF.get(configuration, STEPS)


def compare(alone: FirstSteps, got: FirstSteps, task: Task) -> Parity:
    """Return how far a task's first steps are from those of ``single``, and if that is allowed.

    Losses are compared relatively, gradients by the relative L2 norm of their difference: which
    shows a wrong shard or average at once. alone may have more steps.
    """
    steps = min(len(alone.losses), len(got.losses))
    pairs = zip(alone.losses[:steps], got.losses[:steps], strict=True)
    losses = max((_apart(torch.tensor(a), torch.tensor(b), LEAST) for a, b in pairs), default=0.0)
    both = list(zip(alone.gradients, got.gradients, strict=True))
    gradients = max((_apart(a, b) for a, b in both), default=0.0)
    reasons = inexact(alone, got, task)
    found = Parity(max(losses, gradients), steps, not reasons, None, "; ".join(reasons))
    if reasons:
        return found
    allowed = TOLERANCES[task.cell.precision]
    if found.difference <= allowed:
        return replace(found, equal=True)
    parts = _parts(task) * task.accumulate
    summed = alone.losses and all(
        _apart(a / parts, b) <= allowed
        for a, b in [(torch.tensor(alone.losses[0]), torch.tensor(got.losses[0])), *both]
    )
    why = (
        f"they are 1/{parts} of single's, as if its objective summed over its batch, of which parts"
        " are averaged: let it return the mean"
        if summed and parts > 1
        else PRECISE.get(task.cell.precision)
        or "no layer, buffer or random number explains it; does its objective return a mean over "
        "the batch, each sample on its own, of networks called as they are given?"
    )
    reason = (
        f"first losses differ by {losses:.2g}, the first gradient by {gradients:.2g} (relative, "
        f"{allowed:g} allowed): {why}"
    )
    return replace(found, equal=False, reason=reason)


def inexact(alone: FirstSteps, got: FirstSteps, task: Task) -> list[str]:
    """Return why a task's training cannot be that of ``single``, a reason each; none if it can.

    Its configuration, layers, and buffers set and random numbers drawn for each part of a batch.
    """
    configuration = task.cell.parallel
    reasons = [why] if (why := parallel.inexact(configuration)) else []
    each = parallel.shares(configuration, _parts(task), task.accumulate)
    if not each:
        return reasons
    drawn = alone.layers
    if each != "GPU":  # dp shares a batch out within its networks only
        drawn += alone.objectives
    allowed = TOLERANCES[task.cell.precision]
    own = buffers.apart(alone.buffers, got.buffers, got.layers, allowed)
    return reasons + [f"{name} per {each}" for name in dict.fromkeys((*got.layers, *drawn, *own))]


def _parts(task: Task) -> int:
    """Return into how many parts a task's ranks share a batch out."""
    return parallel.parts(task.cell.parallel, task.world_size)


def _apart(expected: Tensor, got: Tensor, least: float = 1e-12) -> float:
    """Return how far a tensor is from the expected one: the L2 norm of their difference.

    Relative to the expected one's, or to ``least`` if that is larger. Infinite if only one of them
    is finite, 0 if neither is: both trainings have diverged.
    """
    finite = [bool(tensor.isfinite().all()) for tensor in (expected, got)]
    if not all(finite):
        return math.inf if any(finite) else 0.0
    return ((expected - got).norm() / expected.norm().clamp_min(least)).item()
