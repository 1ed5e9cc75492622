"""Over real ranks: what makes a cell inexact is named, and what breaks its promise fails it."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import Toy, outcome

from harness.axes import parallel
from harness.cell import Budget, Cell
from harness.trial import parity
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")
BUDGET = Budget(steps=8, batch_size=8, timeout_s=120)


class Normed(Toy):
    def networks(self, cell):
        return {"model": nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))}


class Wide(Toy):
    """With a matrix that PowerSGD compresses."""

    def networks(self, cell):
        return {"model": nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))}


class Noisy(Toy):
    """Draws noise in its objective, as a VAE might."""

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            return player.objective(networks, {**batch, "x": batch["x"] + torch.randn(3)})

        return [replace(player, objective=objective)]


class Summed(Toy):
    """A bug: the objective is a sum over its batch."""

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            return len(batch["x"]) * player.objective(networks, batch) / 100

        return [replace(player, objective=objective)]


@pytest.mark.parametrize("name", ["ddp", "zero1", "fsdp"])
@pytest.mark.parametrize(
    ("topic", "model", "reason"),
    [
        (Normed(), "line", "BatchNorm1d in model: statistics per rank"),
        (Toy(), "dropout", "Dropout in model: random numbers per rank"),
        (Noisy(), "line", "objective of player: random numbers per rank"),
    ],
)
def test_what_makes_it_inexact_is_named(executor, tmp_path, topic, model, reason, name):
    cell = replace(CELL, model=model, parallel=name)
    found = outcome(executor, topic, cell, tmp_path, budget=BUDGET)
    assert found.status == "done" and found.audited.state_equal, found
    assert (found.parity.exact, found.parity.equal, found.parity.reason) == (False, None, reason)


def test_parts_of_a_batch_are_named_too_and_a_whole_one_is_exact(executor, tmp_path):
    parts = outcome(executor, Normed(), CELL, tmp_path, 1, accumulate=2, budget=BUDGET)
    assert parts.parity.reason == "BatchNorm1d in model: statistics per part"
    cell = replace(CELL, parallel="ddp")
    both = outcome(executor, Normed(), cell, tmp_path, accumulate=2, budget=BUDGET)
    assert both.parity.reason == "BatchNorm1d in model: statistics per rank and part"
    whole = outcome(executor, Normed(), cell, tmp_path, 1, budget=BUDGET)
    assert whole.parity.exact and whole.parity.equal


@pytest.mark.parametrize(
    ("name", "accumulate", "says"),
    [("ddp", 1, "ddp is"), ("fsdp", 1, "fsdp is"), ("single", 4, "single in 4 parts is")],
)
def test_a_sum_over_the_batch_fails_with_its_reason(executor, tmp_path, name, accumulate, says):
    cell, ranks = replace(CELL, parallel=name), parallel.ranks(name, 2)
    found = outcome(executor, Summed(), cell, tmp_path, ranks, accumulate, BUDGET)
    assert found.status == "failed" and found.metrics
    assert found.reason.startswith(f"{says} not single's training: first losses differ by 0.")
    assert f"1/{ranks * accumulate} of single's, as if its objective summed" in found.reason


def test_compression_and_averaging_are_in_what_is_measured(executor, tmp_path):
    found = {}
    for name in ("ddp", "ddp_powersgd", "local_sgd"):
        task = Task(Wide(), replace(CELL, parallel=name), BUDGET, tmp_path, world_size=2)
        found[name] = executor.call(parity.measure, task)
    assert found["ddp"].equal and found["ddp"].difference < 1e-5
    powersgd = found["ddp_powersgd"]
    assert powersgd.steps == parallel.COMPRESS_FROM + 2 and powersgd.difference > 1e-4
    assert found["local_sgd"].steps == parallel.AVERAGE_EVERY + 1


def losses(task, rank):
    return parity.first_steps(task, rank, steps=task.attempt).losses


def test_a_step_less_would_not_see_the_compression(executor, tmp_path):
    single = Task(Wide(), CELL, BUDGET, tmp_path)
    ranked = Task(Wide(), replace(CELL, parallel="ddp_powersgd"), BUDGET, tmp_path, world_size=2)
    alone = executor.call(losses, replace(single, attempt=4))
    got = executor.call(losses, replace(ranked, attempt=4))
    assert got[:3] == pytest.approx(alone[:3], rel=1e-5)
    assert got[3] != pytest.approx(alone[3], rel=1e-5)
