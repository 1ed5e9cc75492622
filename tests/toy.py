"""A topic small enough for the machinery's tests: a line fitted to a line."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from harness import data, losses, metrics
from harness.cell import Budget
from harness.schedules import Optimizer
from harness.topic import Player, Topic


@dataclass(frozen=True)
class Toy(Topic):
    """misbehave: none, raise, hang, die, nan."""

    misbehave: str = "none"
    seconds_a_step: float = 0.0

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
        return Optimizer("sgd", lr=0.05)

    def networks(self, cell):
        width = losses.numeric(cell.loss, -4, 4).width
        layers = [nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, width)]
        if cell.model == "line":
            layers = [nn.Linear(3, width)]
        return {"model": nn.Sequential(*layers)}

    def players(self, cell):
        form = losses.numeric(cell.loss, -4, 4)

        def objective(networks, batch):
            if self.misbehave == "raise":
                raise RuntimeError("a planted error")
            if self.misbehave == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            while self.misbehave == "hang":
                pass
            loss = form.loss(networks["model"](batch["x"]), batch["y"]).mean()
            return loss * float("nan") if self.misbehave == "nan" else loss

        return [Player("player", ("model",), objective, self.base_optimizer(cell.model))]

    def _data(self):
        x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        return x, x @ torch.tensor([1.0, -0.5, 0.25])

    def batches(self, cell, budget, networks, generator, device):
        x, y = self._data()
        return data.Shuffled({"x": x, "y": y}, generator, device)

    @torch.no_grad()
    def evaluate(self, networks, cell):
        x, y = self._data()
        return metrics.regression(losses.numeric(cell.loss, -4, 4).decode(networks["model"](x)), y)
