"""A topic small enough for the machinery's tests, a line fitted to a line, and how to run it."""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import pytest
import torch
import torch.distributed as dist
from torch import nn

from harness.axes import losses
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget
from harness.execution.local import LocalExecutor
from harness.topics import metrics
from harness.training.batches import Shuffled
from harness.training.topic import Player, Topic
from harness.trial.task import Task

BUDGET = Budget(steps=20, batch_size=8, timeout_s=120)


@dataclass(frozen=True)
class Toy(Topic):
    """misbehave: none, raise, hang, die, nan, from call ``at`` of the objective on; by ``rank``
    only, and only if the file ``once`` is not there yet, where these are given.
    turns: the player's.
    """

    misbehave: str = "none"
    at: int = 0
    rank: int | None = None
    once: str | None = None
    seconds_a_step: float = 0.0
    turns: int = 1

    name: ClassVar[str] = "toy"
    models: ClassVar[tuple[str, ...]] = ("line", "dropout")
    recipe: ClassVar[tuple[str, str]] = ("mse", "cosine")
    directions: ClassVar[dict] = {"mse": "min", "mae": "min", "r2": "max"}
    budgets: ClassVar[dict] = {
        profile: Budget(steps=20, batch_size=8, timeout_s=60, expected_s=0.1)
        for profile in ("smoke", "quick", "full")
    }

    def dataset_id(self):
        return "toy@0"

    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=0.05)

    def networks(self, cell):
        width = losses.numeric(cell.loss, -4, 4).width
        layers = [nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, width)]
        if cell.model == "line":
            layers = [nn.Linear(3, width)]
        return {"model": nn.Sequential(*layers)}

    def players(self, cell):
        form = losses.numeric(cell.loss, -4, 4)
        calls = count()

        def objective(networks, batch):
            how = self.misbehave if self._now(next(calls)) else "none"
            if how == "raise":
                raise RuntimeError("a planted error")
            if how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "crash":
                ctypes.string_at(0)
            while how == "hang":
                pass
            loss = form.loss(networks["model"](batch["x"]), batch["y"]).mean()
            return loss * float("nan") if how == "nan" else loss

        optimizer = self.base_optimizer(cell.model)
        return [Player("player", ("model",), objective, optimizer, self.turns)]

    def _now(self, call):
        if self.misbehave == "none" or call < self.at:
            return False
        if self.rank is not None and (not dist.is_initialized() or dist.get_rank() != self.rank):
            return False
        if self.once is None:
            return True
        return not os.path.exists(self.once) and open(self.once, "x").close() is None

    def _data(self, seed=0):
        x = torch.randn(64, 3, generator=torch.Generator().manual_seed(seed))
        return x, x @ torch.tensor([1.0, -0.5, 0.25])

    def batches(self, cell, budget, networks, generator, device):
        x, y = self._data()
        return Shuffled({"x": x, "y": y}, generator, device)

    def evaluate(self, networks, cell):
        return self._measure(networks["model"], cell, *self._data())

    def validate(self, networks, cell):
        return self._measure(networks["model"], cell, *self._data(1))

    @torch.no_grad()
    def _measure(self, network, cell, x, y):
        outputs = network(x.to(next(network.parameters()).device)).cpu()
        return metrics.regression(losses.numeric(cell.loss, -4, 4).decode(outputs), y)


def outcome(executor, topic, cell, folder, ranks=2, accumulate=1, budget=BUDGET):
    """What becomes of a cell on so many ranks."""
    task = Task(topic, cell, budget, folder, world_size=ranks, accumulate=accumulate)
    executor.submit([task])
    found = {}
    while executor.pending():
        found |= dict(executor.pump())
    return found[task]


def run(tmp_path, *tasks):
    """The tasks' outcomes by an executor of their own, of which no process is left."""
    outcomes = {}
    executor = LocalExecutor()
    executor.submit(tasks)
    pids = set()
    try:
        while executor.pending():
            outcomes |= dict(executor.pump())
            pids |= {w.process.pid for gang in executor._gangs for w in gang.workers}
    finally:
        executor.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    return [outcomes[task] for task in tasks]
