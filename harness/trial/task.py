"""What a worker is told, and the words in which it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.axes import parallel
from harness.cell import Budget, Cell
from harness.checkpoint import tree
from harness.training.loop import Training
from harness.training.topic import Topic

REPLAY = 3


@dataclass(frozen=True)
class Task:
    """What a worker needs to know. run: the folder under which the cell leaves its files.

    accumulate: parts that a rank takes a batch in. attempt: 0, or how often it failed before.
    """

    topic: Topic
    cell: Cell
    budget: Budget
    run: Path
    device: str = "cpu"
    world_size: int = 1
    accumulate: int = 1
    attempt: int = 0

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


def training_of(task: Task, device: torch.device, rank: int, watch: int = 0) -> Training:
    """A fresh training for the task, this process being one of its ranks."""
    ranks = (rank, task.world_size, task.accumulate, watch)
    return Training(task.topic, task.cell, task.budget, device, *ranks)


def measured(task: Task, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A topic's values as a record's ``metrics`` and ``evaluation``."""
    metrics = {name: values[name] for name in task.topic.directions if name in values}
    rest = {name: value for name, value in values.items() if name not in metrics}
    return {"metrics": metrics, "evaluation": rest}


def digest(training: Training) -> str:
    """Of the networks' states; ranks call it together."""
    states = {name: dict(net.state_dict()) for name, net in training.networks.items()}
    return tree.digest(parallel.whole(states))


def device_of(task: Task, rank: int) -> torch.device:
    """The rank's own device, made current."""
    if task.device != "cuda":
        return torch.device(task.device)
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
