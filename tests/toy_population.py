"""Toy cells that may train as one."""

import os
import signal
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn
from toy import Toy

from harness.cell import Budget, Cell
from harness.training.loop import Training
from harness.training.population.population import Population

SHORT = Budget(steps=20, batch_size=8)


@dataclass(frozen=True)
class Crowded(Toy):
    """Toy cells that may train together; seed 3 explodes if ``explode`` says so.

    together: what happens under vmap only: none, die, raise.
    """

    explode: bool = False
    together: str = "none"

    populates: ClassVar[tuple[str, ...]] = ("line", "dropout")

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            if not isinstance(networks["model"], nn.Module) and self.together == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if not isinstance(networks["model"], nn.Module) and self.together == "raise":
                raise ValueError("planted under vmap")
            return player.objective(networks, batch)

        rate = 1e20 if self.explode and cell.seed == 3 else 0.05
        return [replace(player, objective=objective, optimizer=replace(player.optimizer, lr=rate))]


def cells(count=8, model="line", loss="mse", schedule="cosine"):
    return [Cell("toy", model, loss, schedule, seed=seed) for seed in range(count)]


def alone(topic, cell, budget):
    training = Training(topic, cell, budget)
    training.run(budget.steps)
    return training


def together(topic, some, budget):
    trained = Population(topic, some, budget)
    trained.run(budget.steps)
    trained.update_members()
    trained.update_histories()
    return trained


def weights(training):
    return torch.cat(
        [p.detach().flatten() for n in training.networks.values() for p in n.parameters()]
    )


def differ(first, second):
    return ((first - second).norm() / first.norm()).item()
