"""Toy cells that may train as one."""

import os
import signal
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn
from toy import Toy

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.training.batches import WithNoise
from harness.training.loop import Training
from harness.training.population.population import Population
from harness.training.topic import Player

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


@dataclass(frozen=True)
class Duel(Toy):
    """Two players: one guesses in three turns a step, the other misleads it in one.

    explode: seed 3's second player does. fail: seed 2's networks are found to have failed.
    own: what the topic's networks are, of plain, shared, counting, counting in
    place.
    """

    explode: bool = False
    fail: bool = False
    own: str = "plain"

    populates: ClassVar[tuple[str, ...]] = ("line",)

    def networks(self, cell):
        guess, mislead = nn.Linear(3, 1), nn.Sequential(nn.Linear(3, 3))
        if self.own == "shared":
            mislead.append(guess)
        if self.own in ("counting", "counting in place"):
            mislead.append(Counting(self.own == "counting in place"))
        return {"guess": guess, "mislead": mislead}

    def players(self, cell):
        def guess(networks, batch):
            with torch.no_grad():
                noise = networks["mislead"](batch["noise"])
            return (networks["guess"](batch["x"] + noise)[:, 0] - batch["y"]).square().mean()

        def mislead(networks, batch):
            seen = batch["x"] + networks["mislead"](batch["noise"])
            return -(networks["guess"](seen)[:, 0] - batch["y"]).square().mean().sqrt()

        rate = 1e30 if self.explode and cell.seed == 3 else 0.01
        return [
            Player("guess", ("guess",), guess, OptimizerSpec("sgd", lr=0.02), 3),
            Player("mislead", ("mislead",), mislead, OptimizerSpec("adam", lr=rate)),
        ]

    def batches(self, cell, budget, networks, generator, device):
        return WithNoise(
            super().batches(cell, budget, networks, generator, device), {"noise": (3,)}
        )

    def failure(self, networks, cell):
        return "it failed" if self.fail and cell.seed == 2 else None

    def evaluate(self, networks, cell):
        return self._measure(networks["guess"], cell, *self._data())

    def validate(self, networks, cell):
        return self._measure(networks["guess"], cell, *self._data(1))


class Counting(nn.Module):
    """Keeps how often it was called, as spectral norm keeps its vectors."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.in_place:
            self.calls += 1
        else:
            self.calls = self.calls + 1
        return x


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
    return torch.cat([weights_of(network) for network in training.networks.values()])


def weights_of(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def differ(first, second):
    return ((first - second).norm() / first.norm()).item()
