"""What a topic's interface does by itself: a player's parameters, and the baseline."""

import random

import numpy as np
import torch
from torch import nn
from toy import BUDGET, Toy

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Cell
from harness.training.loop import Training
from harness.training.topic import Player

CELL = Cell("toy", "line", "mse", "constant")


class Shared(Toy):
    """Two networks of one player that share their weight."""

    def networks(self, cell):
        one, two = nn.Linear(3, 1), nn.Linear(3, 1)
        two.weight = one.weight
        return {"one": one, "two": two}

    def players(self, cell):
        def objective(networks, batch):
            guess_B = (networks["one"](batch["x"]) + networks["two"](batch["x"]))[:, 0]
            return (guess_B - batch["y"]).square().mean()

        optimizer = OptimizerSpec("sgd", lr=0.05, momentum=0.0)
        return [Player("player", ("one", "two"), objective, optimizer)]


def test_a_parameter_of_two_networks_is_moved_once():
    training = Training(Shared(), CELL, BUDGET, watched_steps=1)
    names = dict(training.players[0].named_parameters(training.networks))
    assert list(names) == ["one.weight", "one.bias", "two.bias"]
    weight = training.networks["two"].weight
    before = weight.detach().clone()
    training.run(1)
    assert torch.allclose(weight, before - 0.05 * weight.grad)
    assert training.gradients[0].numel() == 5
    middle = training.state_dict()
    training.run(20)
    resumed = Training(Shared(), CELL, BUDGET)
    resumed.load_state_dict(middle)
    resumed.run(20)
    assert torch.equal(resumed.networks["one"].weight, weight)


class Drawn(Toy):
    """Networks whose weights come from Python's and NumPy's generators too."""

    def networks(self, cell):
        networks = super().networks(cell)
        with torch.no_grad():
            networks["model"][0].weight.fill_(random.random() + np.random.rand())
        return networks


def test_a_baseline_does_not_depend_on_what_was_drawn_before():
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        found.append(Drawn().baseline(CELL))
    assert found[0] == found[1] == Training(Drawn(), CELL, BUDGET).evaluate()
