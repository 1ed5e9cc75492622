"""Over real ranks: what they do where they differ, and models that a configuration cannot take."""

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
import torch.distributed as dist
from torch import nn
from toy import Toy, outcome

from harness import checkpoint, restored
from harness.cell import Budget, Cell

CELL = Cell("toy", "line", "mse", "cosine")
BUDGET = Budget(steps=18, batch_size=12, timeout_s=60)


@dataclass(frozen=True)
class Lopsided(Toy):
    """Its networks fail in the eyes of ranks from ``rank`` on."""

    def failure(self, networks, cell):
        own = dist.get_rank()
        return f"rank {own} has seen enough" if own >= self.rank else None


@pytest.mark.parametrize("configuration", ["ddp", "fsdp", "local_sgd"])
def test_all_ranks_stop_where_one_sees_a_failure(executor, tmp_path, configuration):
    cell = replace(CELL, parallel=configuration)
    found = outcome(executor, Lopsided(rank=1), cell, tmp_path, 3, budget=BUDGET)
    assert found.status == "diverged", found.reason
    assert found.reason == "rank 1 has seen enough at step 10" and found.diverged_at == 10


class Smoothed(Toy):
    """Trains with BatchNorm; mae is that of a running mean of its weights, which has none."""

    directions: ClassVar[dict] = {"mse": "min", "mae": "min"}

    def networks(self, cell):
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        mean = copy.deepcopy(model).requires_grad_(False)
        mean[1] = nn.Identity()
        return {"model": model, "mean": mean}

    @torch.no_grad()
    def each_step(self, networks, cell, step, steps):
        for at in (0, 2):
            networks["mean"][at].weight.lerp_(networks["model"][at].weight, 0.2)

    def evaluate(self, networks, cell):
        mse, mae = (self._measure(networks[n], cell, *self._data()) for n in ("model", "mean"))
        return {"mse": mse["mse"], "mae": mae["mae"]}

    def validate(self, networks, cell):
        return {}


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("configuration", ["ddp", "local_sgd"])
def test_what_is_measured_is_what_is_saved(executor, tmp_path, configuration, ranks):
    cell = replace(CELL, parallel=configuration)
    found = outcome(executor, Smoothed(), cell, tmp_path, ranks, budget=BUDGET)
    assert found.status == "done", found
    audit = found.audited
    assert (audit.state_equal, audit.resume_equal, audit.metrics_equal) == (True,) * 3
    tree = checkpoint.load(tmp_path / "checkpoints" / cell.id / "final.pt")
    networks = restored.networks(tree, Smoothed(), cell)
    assert Smoothed().evaluate(networks, cell) == found.metrics


class Scaled(Toy):
    """Multiplies by a scalar parameter."""

    def networks(self, cell):
        networks = super().networks(cell)
        networks["model"].scale = nn.Parameter(torch.tensor(1.0))
        return networks

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            model = networks["model"]
            scale = getattr(model, "module", model).scale
            return player.objective(networks, {**batch, "y": scale * batch["y"]})

        return [replace(player, objective=objective)]


@pytest.mark.parametrize("configuration", ["fsdp", "fsdp_zero2"])
def test_a_scalar_that_cannot_be_sharded_is_named(executor, tmp_path, configuration):
    cell = replace(CELL, parallel=configuration)
    found = outcome(executor, Scaled(), cell, tmp_path, budget=BUDGET)
    assert found.status == "failed"
    says = f"UsageError: parameter model.scale is a scalar, which {configuration} cannot shard"
    assert says in found.reason


class Idle(Toy):
    """Has parameters that it does not use; if ``late`` a whole network instead."""

    late: ClassVar[bool] = False

    def networks(self, cell):
        networks = super().networks(cell)
        if self.late:
            return networks | {"late": nn.Linear(1, 1)}
        for name in ("spare", "other"):
            networks["model"][0].register_parameter(name, nn.Parameter(torch.ones(2)))
        return networks

    def players(self, cell):
        (player,) = super().players(cell)
        return [replace(player, networks=("model", "late"))] if self.late else [player]


class Late(Idle):
    late = True


@pytest.mark.parametrize("configuration", ["ddp", "ddp_powersgd", "zero1"])
def test_a_parameter_whose_gradient_would_be_waited_for_is_named(executor, tmp_path, configuration):
    cell = replace(CELL, parallel=configuration)
    found = outcome(executor, Idle(), cell, tmp_path, budget=BUDGET)
    assert found.status == "failed"
    assert "UsageError: no loss depends on parameter" in found.reason
    assert f"model.0.spare and 1 more, whose gradient {configuration} waits" in found.reason


@pytest.mark.parametrize(
    ("topic", "configuration"), [(Idle(), "fsdp"), (Idle(), "local_sgd"), (Late(), "ddp")]
)
def test_others_are_not_waited_for(executor, tmp_path, topic, configuration):
    cell = replace(CELL, parallel=configuration)
    found = outcome(executor, topic, cell, tmp_path, budget=BUDGET)
    assert found.status == "done", found.reason
