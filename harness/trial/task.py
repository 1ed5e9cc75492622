"""A task: what a process must know of a cell to train it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.axes import parallel, registry
from harness.axes.axis import Value
from harness.cell import TIMES, Budget, Cell, Status, UsageError
from harness.checkpoint import digest
from harness.files import remove
from harness.training.loop import Training
from harness.training.topic import Topic
from harness.trial.outcome import Outcome

REPLAYED_STEPS = 3  # that the audit trains on from the middle checkpoint


@dataclass(frozen=True)
class Task:
    """A cell as a process is told of it, with all that it needs to train it.

    run: the folder under which it leaves its files. accumulate: parts that a rank takes a batch in.
    attempt: 0, or how often it failed before. rate: the multiple of the topic's learning rates that
    it trains at. gpus: those of its ranks in turn, by index; empty: all there are. per_gpu: how
    many trainings may share one, itself included. choosing: it is only validated, to choose by.
    limit_s: seconds of wall time after which it is given up however well it goes, audit included;
    None: it may go on for as long as it advances. own: what the project brought to the axes.
    """

    topic: Topic
    cell: Cell
    budget: Budget
    run: Path
    device: str = "cpu"
    world_size: int = 1
    accumulate: int = 1
    attempt: int = 0
    rate: float = 1.0
    gpus: tuple[int, ...] = ()
    per_gpu: int = 1
    choosing: bool = False
    limit_s: float | None = None
    own: tuple[Value, ...] = field(default_factory=registry.own)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that this task trains."""
        return (self.cell,)

    @property
    def fitted(self) -> bool:
        """Whether scikit-learn's ``fit`` trains the model, so that there are no steps."""
        return self.cell.model in self.topic.fits

    @property
    def folder(self) -> Path:
        """The folder of the cell's checkpoints."""
        return self.run / "checkpoints" / self.cell.id

    def forget(self) -> None:
        """Remove what an earlier experiment left half way: no attempt is to go on from it."""
        for cell in self.cells:
            remove(self.run / "checkpoints" / cell.id / "middle.pt")

    @property
    def middle(self) -> int:
        """The step of the middle checkpoint, from which the audit trains on."""
        return max(1, self.budget.steps // 2)

    @property
    def replayed_steps(self) -> int:
        """How many steps the audit trains on from the middle checkpoint."""
        return min(REPLAYED_STEPS, self.budget.steps - self.middle)


def training_of(task: Task, device: torch.device, rank: int, watched_steps: int = 0) -> Training:
    """Make a fresh training for the task, with this process as one of its ranks."""
    ranks = (rank, task.world_size, task.accumulate, watched_steps, task.rate)
    return Training(task.topic, task.cell, task.budget, device, *ranks)


def measured(
    task: Task, values: dict[str, Any], method: str = "evaluate"
) -> tuple[dict[str, float], dict[str, Any]]:
    """Split what a topic's ``method`` returned: metrics, and how they were taken.

    Tensors and NumPy values of one number become that number. What has no direction is no metric,
    and kept beside them. Raises UsageError for what a record cannot hold, for metrics that are no
    numbers, and where ``evaluate`` left out the primary one; for a model in ``alone``, its task's.
    """
    topic, cell = task.topic, task.cell
    if not isinstance(values, Mapping):
        raise UsageError(f"{method} returned a {type(values).__name__}: a dict is needed")
    numbers = {name: _number(value) for name, value in values.items()}
    metrics = {name: numbers[name] for name in topic.directions if name in numbers}
    rest = {name: value for name, value in numbers.items() if name not in metrics}
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{method} returned {_told(name, value)}: a metric is one number")
    for name, value in rest.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise UsageError(
                f"{method} returned {_told(name, value)}: numbers, text, lists and dicts of them "
                "are kept beside the metrics"
            ) from None
    lacking = [name for name in topic.judged_by(cell.model) if name not in metrics]
    due = method == "evaluate" or (method == "validate" and values)
    if lacking and due and parallel.is_rank_zero():  # alone in evaluating
        alone = cell.model in topic.alone.values()
        what = f"which {cell.model} is to measure" if alone else "the primary metric"
        raise UsageError(
            f"{method} returned no {lacking[0]!r}, {what}: "
            f"it returned {', '.join(map(repr, values)) or 'nothing'}"
        )
    return metrics, rest


def judged(task: Task, outcome: Outcome) -> Outcome:
    """Return the outcome of a training that ended; unmeasured if its primary metric is not finite.

    No mean and no comparison can be made of NaN or an infinity. That of a time (``steps_to_solve``)
    says that it never got there, and stays.
    """
    name = task.topic.judged_by(task.cell.model)[0]
    for half, values in (("test", outcome.metrics), ("validation", outcome.validation)):
        value = values.get(name, 0.0)
        if isinstance(value, float) and not math.isfinite(value) and not name.startswith(TIMES):
            reason = f"{name} on {half} data is not a finite number ({value})"
            return replace(outcome, status=Status.UNMEASURED, reason=reason)
    return outcome


def _told(name: str, value: object) -> str:
    return f"{name} = {' '.join(repr(value).split()):.80}"


def _number(value: Any) -> Any:
    """Return the number that a tensor or NumPy value holds if it is one; else the value itself."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic) and math.prod(value.shape) == 1:
        return value.item()
    return value


def network_digest(training: Training) -> str:
    """Return a digest of the states of a training's networks; all ranks call it together."""
    states = {name: dict(net.state_dict()) for name, net in training.networks.items()}
    return digest(parallel.full_tensors(states))
