"""Random numbers that are drawn within torch.func are seen, and whose they are."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from toy import BUDGET, Toy

from harness.cell import Cell
from harness.training.loop import Training
from harness.training.topic import Player
from harness.trial.draws import Draws

CELL = Cell("toy", "line", "mse", "cosine")
LAYER, OBJECTIVE = "Dropout in model: random numbers", "objective of player: random numbers"


class Slopes(Toy):
    """An objective of a network's slopes, by functions of torch.func."""

    def players(self, cell):
        def objective(networks, batch):
            def height(x):
                return networks["model"](x[None]).sum()

            drawn = torch.rand(()) if self.turns > 1 else 0.0
            slopes = vmap(grad(height), randomness="different")(batch["x"])
            return slopes.square().mean() + networks["model"](batch["x"]).mean() * drawn

        return [Player("player", ("model",), objective, self.base_optimizer(cell.model))]


@pytest.mark.parametrize(
    ("model", "turns", "layers", "objectives"),
    [("line", 1, [], []), ("dropout", 1, [LAYER], []), ("line", 2, [], [OBJECTIVE])],
)
def test_draws_within_torch_func_are_found(model, turns, layers, objectives):
    training = Training(Slopes(turns=turns), replace(CELL, model=model), BUDGET)
    draws = Draws(training)
    training.run(2)
    assert (list(draws.layers), list(draws.objectives)) == (layers, objectives)


def test_watching_changes_no_number_within_torch_func():
    def losses(watch):
        training = Training(Slopes(), replace(CELL, model="dropout"), BUDGET)
        if watch:
            Draws(training)
        training.run(3)
        return [loss.item() for loss in training.losses]

    assert losses(True) == losses(False)


def test_a_layer_that_raises_within_torch_func_is_told_by_its_own_error():
    class Raising(nn.Module):
        def forward(self, x):
            raise ValueError("its own")

    class Broken(Slopes):
        def networks(self, cell):
            return {"model": nn.Sequential(nn.Linear(3, 1), Raising())}

    training = Training(Broken(), CELL, BUDGET)
    Draws(training)
    with pytest.raises(ValueError, match="its own"):
        training.run(1)
