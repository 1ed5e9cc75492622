"""Train small pools of regression and vgg on many seeds, without and with a fault in the code.

``operating_compare.py`` draws runs from what this trains.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import lr_scheduler

from harness.axes import losses, schedules
from harness.cell import Budget, Cell, Status
from harness.rates.table import shipped
from harness.topics.regression import Regression
from harness.topics.vgg import VGG
from harness.training.loop import Diverged, Training
from harness.training.population.population import Population
from harness.training.topic import Topic

COLUMNS = ["fault", "id", "status", "metric", "value", "untrained"]
WRONG = 0.05  # of the training targets
SCHEDULES = ("cosine", "constant")
FAULTS = ("none", "rate", "targets", "metric", "loss", "schedule")


@dataclass(frozen=True)
class Pool:
    """What is trained of a topic; together: how many seeds at once.

    lies_in: the loss, the schedule and the metric that the faults of these names are in.
    """

    topic: Topic
    models: tuple[str, ...]
    losses: tuple[str, ...]
    budget: Budget
    seeds: int
    together: int
    lies_in: Mapping[str, str]

    def cells(self, fault: str, seeds: range) -> list[Cell]:
        """Return the cells that a fault is trained in: none for one that lies in a metric."""
        if fault == "metric":
            return []
        own = self.lies_in.get(fault)
        axes = product(self.models, self.losses, SCHEDULES, ["single"], seeds)
        every = [Cell(self.topic.name, *values) for values in axes]
        return [cell for cell in every if own in (None, cell.loss, cell.schedule)]


POOLS = {
    "regression": Pool(
        Regression(),
        ("linear", "svr", "mlp"),
        losses.FAMILIES,
        Regression.budgets["quick"],
        seeds=40,
        together=40,
        lies_in={"loss": "huber", "schedule": "cosine", "metric": "mae"},
    ),
    "vgg": Pool(
        VGG(width=8),
        ("vgg11",),
        ("ce", "mse"),
        replace(VGG.budgets["quick"], steps=150),
        seeds=16,
        together=1,
        lies_in={"loss": "ce", "schedule": "cosine", "metric": "ece"},
    ),
}
POOLS["mlp alone"] = replace(POOLS["regression"], models=("mlp",))  # of the same trainings


def wrong_targets(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Give a share of the training samples another class, or another sample's value."""

    def batches(self: Topic, *args: Any) -> Any:
        stream = plain(self, *args)
        draw, y_N = torch.Generator().manual_seed(0), stream.tensors["y"].clone()
        chosen = torch.randperm(len(y_N), generator=draw)[: round(WRONG * len(y_N))]
        if y_N.is_floating_point():
            y_N[chosen] = y_N[chosen.roll(1)]
        else:
            y_N[chosen] = (y_N[chosen] + torch.randint(1, 10, chosen.shape, generator=draw)) % 10
        stream.tensors["y"] = y_N
        return stream

    return batches


def wrong_loss(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Halve regression's loss, and smooth vgg's labels by 0.1."""

    def players(self: Topic, cell: Cell) -> Any:
        (player,) = plain(self, cell)

        def halved(networks: Any, batch: Any) -> Tensor:
            return player.objective(networks, batch) / 2

        def smoothed(networks: Any, batch: Any) -> Tensor:
            return F.cross_entropy(networks["model"](batch["x"]), batch["y"], label_smoothing=0.1)

        return [replace(player, objective=halved if self.name == "regression" else smoothed)]

    return players


def wrong_cosine(optimizer: torch.optim.Optimizer, steps: int) -> schedules.Schedule:
    """Fall along half a cosine to 30 % of the rate instead of to 0."""
    rate = optimizer.param_groups[0]["lr"]
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.3 * rate)


def planted(topic: Topic, fault: str) -> AbstractContextManager[Any]:
    """Return a context in which the code has a fault; the halved rate is ``trained``'s."""
    kind = type(topic)
    return {
        "targets": patch.object(kind, "batches", wrong_targets(kind.batches)),
        "loss": patch.object(kind, "players", wrong_loss(kind.players)),
        "schedule": patch.dict(schedules._BUILD, cosine=wrong_cosine),
    }.get(fault, nullcontext())


def train(path: Path, pool: Pool) -> None:
    """Train what the file does not have yet of a pool."""
    torch.set_num_threads(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    have = set(pd.read_csv(path)[["fault", "id"]].itertuples(index=False, name=None))
    for first in range(0, pool.seeds, pool.together):
        seeds = range(first, min(first + pool.together, pool.seeds))
        for fault, model, loss in product(FAULTS, pool.models, pool.losses):
            cells = [c for c in pool.cells(fault, seeds) if (c.model, c.loss) == (model, loss)]
            if left := [cell for cell in cells if (fault, cell.id) not in have]:
                with planted(pool.topic, fault):
                    found = [row for own in trained(pool, fault, left) for row in rows(*own)]
                with path.open("a", newline="") as file:
                    csv.writer(file).writerows([fault, *row] for row in found)
                print(f"{fault} {model} {loss} seeds {seeds[0]} to {seeds[-1]}", flush=True)


def trained(pool: Pool, fault: str, cells: list[Cell]) -> Iterator[tuple[Training, bool]]:
    """Train cells of one model and loss, and yield each training and whether it diverged."""
    rates = [shipped().of(cell) * (0.5 if fault == "rate" else 1) for cell in cells]
    if cells[0].model in pool.topic.populates:
        population = Population(pool.topic, cells, pool.budget, rates=rates)
        population.run(pool.budget.steps)
        population.update_members()
        yield from ((member, member.cell in population.ended) for member in population.members)
        return
    for cell, rate in zip(cells, rates, strict=True):
        training, diverged = Training(pool.topic, cell, pool.budget, rate=rate), False
        try:
            training.run(pool.budget.steps)
        except Diverged:
            diverged = True
        yield training, diverged


def rows(training: Training, diverged: bool) -> Iterator[list[object]]:
    """Yield what the file has of a training, a row for each metric."""
    plain = training.topic.baseline(training.cell)
    found = {} if diverged else training.evaluate()
    status = Status.DIVERGED if diverged else Status.DONE
    for metric in training.topic.directions:
        yield [training.cell.id, status, metric, found.get(metric, np.nan), plain[metric]]
