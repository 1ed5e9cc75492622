"""Measure validation data during a training, so that it has a curve of quality, not of loss."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.training.loop import Training
from harness.trial.cost import Clock
from harness.trial.task import Task, measured


class HeldOut:
    """Collects a training's metrics on validation data at ``budget.looks`` of its steps.

    The steps lie evenly, the last one at the end. ``clock`` counts the time as evaluation, not as
    training. A training that goes on from a checkpoint has seen no more than its second part, and
    collects nothing.
    """

    def __init__(self, task: Task, training: Training, clock: Clock) -> None:
        self.task, self.training, self.clock = task, training, clock
        looks = task.budget.looks if training.step == 0 else 0
        self.steps = {task.budget.steps * part // looks for part in range(1, looks + 1)} - {0}
        self.curve: dict[str, list[float]] = {}

    def look(self, step: int) -> None:
        """Measure validation data if the step is one of them; all ranks call it together.

        Not at the last step, whose values are those that the cell is judged by: see ``end``. Raises
        Diverged where a loss was not finite: such networks are not measured.
        """
        if step in self.steps and step < self.task.budget.steps:
            self.training.check_finite()
            with self.clock.measure("eval_s"):
                values, _ = measured(self.task, self.training.validate(), "validate")
            self._add(step, values)

    def end(self, values: Mapping[str, float]) -> dict[str, list[float]]:
        """Add what the trained networks measured, and return step and metrics as equal lists.

        Empty without looks, and where there is no validation data.
        """
        if self.steps and values:
            self._add(self.task.budget.steps, values)
        return self.curve if len(self.curve) > 1 else {}

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a step's metrics; what was not measured at one of the steps is NaN there."""
        before = len(self.curve.get("step", ()))
        for name, value in {"step": float(step), **values}.items():
            self.curve.setdefault(name, [math.nan] * before).append(value)
        for seen in self.curve.values():
            seen += [math.nan] * (before + 1 - len(seen))
