"""A population's members against the same cells trained alone."""

import random
from dataclasses import dataclass, replace

import brought
import numpy as np
import pytest
import torch
from torch import nn
from toy import Toy
from toy_population import SHORT, Crowded, Duel, alone, cells, differ, together, weights

from harness import checkpoint
from harness.axes import losses, registry, schedules
from harness.cell import Budget, Cell
from harness.checkpoint import state, tree
from harness.topics.generators.gan import GAN
from harness.topics.generators.vae import VAE
from harness.topics.regression import Regression
from harness.training import agreement
from harness.training.loop import Diverged, Training
from harness.training.population.population import Population
from harness.training.population.stacking import NotStackable

BUDGET = Budget(steps=100, batch_size=64)


@pytest.mark.parametrize("loss", losses.FAMILIES)
def test_an_mlp_is_the_one_trained_alone_within_1e_5_after_100_steps(loss):
    some = [
        Cell("regression", "mlp", loss, name, seed=s) for s in (0, 1) for name in schedules.NAMES
    ]
    trained = together(Regression(), some, BUDGET)
    for member in trained.members[::2]:
        single = alone(Regression(), member.cell, BUDGET)
        assert differ(weights(single), weights(member)) < 1e-5
        assert member.rates == single.rates
        assert agreement.difference(single.curve(), member.curve()) <= agreement.TOLERANCE
        assert member.evaluate() == pytest.approx(single.evaluate(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("model", ["linear", "svr"])
def test_so_are_linear_and_svr(model):
    some = [Cell("regression", model, "mse", name) for name in schedules.NAMES]
    for member in together(Regression(), some, BUDGET).members:
        single = alone(Regression(), member.cell, BUDGET)
        assert differ(weights(single), weights(member)) < 1e-5
        assert member.rates == single.rates


VAE_BUDGET = Budget(steps=60, batch_size=32)


def vaes(loss, names):
    return Population(VAE(), [Cell("vae", "vae", loss, name) for name in names], VAE_BUDGET)


@pytest.mark.parametrize("loss", ["ce", "mae"])
def test_a_vae_s_losses_are_within_1e_4_after_20_steps_of_adam(loss):
    trained = vaes(loss, ("constant", "one_cycle"))
    trained.run(20)
    trained.update_members()
    trained.update_histories()
    for member in trained.members:
        single = Training(VAE(), member.cell, VAE_BUDGET)
        single.run(20)
        first, second = torch.stack(single.losses), torch.stack(member.losses)
        assert ((first - second) / first).abs().max() < agreement.TOLERANCE
        assert member.rates == single.rates


STEPWISE = [
    (VAE(), "vae", "ce", 20),
    (VAE(), "vae", "mae", 20),
    (GAN(), "dcgan", "hinge", 10),
    (GAN(), "dcgan", "kl", 10),
    (GAN(), "wgan_gp", "hinge", 2),
]


@pytest.mark.parametrize(("topic", "model", "loss", "steps"), STEPWISE)
def test_each_step_is_the_one_taken_alone_from_the_same_place(topic, model, loss, steps):
    """Over many steps that need not hold under rmsprop: its first step moves every weight by ten
    times its rate, however small the gradient, until a ReLU's input is a rounding away from 0. A
    training alone then departs from itself as far (a vae's losses by 1.3e-3 in 20 steps when each
    weight was moved by one rounding). So the places are made equal before each step.
    """
    schedules_ = ("constant", "rmsprop", "one_cycle")
    some = [Cell(topic.name, model, loss, schedule) for schedule in schedules_]
    trained = Population(topic, some, VAE_BUDGET)
    singles = [Training(topic, member.cell, VAE_BUDGET) for member in trained.members]
    for _ in range(steps):
        trained.update_members()
        for single, member in zip(singles, trained.members, strict=True):
            for name, network in single.networks.items():
                network.load_state_dict(member.networks[name].state_dict())
            for name, optimizer in single.optimizers.items():
                optimizer.load_state_dict(tree.plain(member.optimizers[name].state_dict()))
        before = [weights(single) for single in singles]
        trained.run(trained.step + 1)
        trained.update_members()
        for place, (single, member) in enumerate(zip(singles, trained.members, strict=True)):
            single.run(single.step + 1)
            alone_loss = single.losses[-1].item()
            assert trained.losses[-1][place].item() == pytest.approx(alone_loss, rel=1e-6, abs=1e-6)
            moved = differ(weights(single) - before[place], weights(member) - before[place])
            assert moved < 1e-4


def test_one_that_diverges_leaves_the_others_bit_for_bit_as_they_were():
    calm, wild = (together(Crowded(explode=e), cells(), SHORT) for e in (False, True))
    with pytest.raises(Diverged) as single:
        alone(Crowded(explode=True), cells()[3], SHORT)
    assert {c.seed: str(e) for c, e in wild.ended.items()} == {3: str(single.value)}
    for first, second in zip(calm.members, wild.members, strict=True):
        if first.cell.seed != 3:
            assert torch.equal(weights(first), weights(second))
            assert first.curve() == second.curve()
    assert len(wild.members[3].losses) == 10  # up to where it was seen, as alone


class Steep(Crowded):
    """Its loss is finite, its gradient is not."""

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            slope = (0 * networks["model"](batch["x"])).sum().abs().sqrt()
            return player.objective(networks, batch) + slope

        return [replace(player, objective=objective)]


def test_weights_that_the_last_update_lost_are_seen_as_alone():
    once = Budget(steps=1, batch_size=8)
    with pytest.raises(Diverged, match="weights of model are not finite at step 1") as single:
        alone(Steep(), cells()[0], once)
    ended = together(Steep(), cells(), once).ended
    assert [str(error) for error in ended.values()] == [str(single.value)] * len(cells())


@pytest.mark.parametrize("schedule", schedules.NAMES)
def test_a_population_resumes_bit_for_bit_and_a_member_alone_within_tolerance(schedule):
    some = cells(3, schedule=schedule)
    whole = Population(Crowded(), some, SHORT)
    whole.run(9)
    whole.update_members()
    kept = [member.state_dict() for member in whole.members]
    whole.run(20)
    whole.update_members()
    resumed = Population(Crowded(), some, SHORT)
    for member, snapshot in zip(resumed.members, kept, strict=True):
        member.load_state_dict(snapshot)
    resumed.update_rows()
    resumed.run(20)
    resumed.update_members()
    single = Training(Crowded(), some[0], SHORT)
    single.load_state_dict(kept[0])
    single.run(20)
    ends = [checkpoint.digest([m.state_dict() for m in p.members]) for p in (whole, resumed)]
    assert ends[0] == ends[1]
    assert differ(weights(whole.members[0]), weights(single)) < 1e-5


@dataclass(frozen=True)
class PartFrozen(Crowded):
    def networks(self, cell):
        networks = super().networks(cell)
        networks["model"][0].requires_grad_(False)
        return networks


class Idle(Duel):
    """Nobody moves its second network."""

    def players(self, cell):
        return super().players(cell)[:1]


class Acting(Crowded):
    """Its networks change between the steps as well."""

    def each_step(self, networks, cell, step, steps):
        pass


@pytest.mark.parametrize(
    ("topic", "some", "reason"),
    [
        (Crowded(), cells(2, model="dropout"), "vmap refuses"),
        (Toy(), cells(2), "does not name line"),
        (Acting(), cells(2), "change between the steps"),
        (Crowded(), cells(1) + cells(1, loss="ce"), "another model or loss"),
        (Crowded(together="raise"), cells(2), "planted under vmap"),
        (PartFrozen(), cells(2, model="dropout"), "a part of its networks is frozen"),
        (Duel(own="shared"), cells(2), "share parameters"),
        (Duel(own="counting"), cells(2), "put other buffers in place"),
        (Duel(own="counting in place"), cells(2), "vmap refuses"),
        (Idle(), cells(2), "not each of its networks is moved by just one player"),
    ],
)
def test_cells_that_cannot_train_as_one_say_why(topic, some, reason):
    with pytest.raises(NotStackable, match=reason):
        Population(topic, some, SHORT)


class Stochastic(nn.Linear):
    """A layer that is left out at random, as in stochastic depth."""

    def forward(self, x):
        return super().forward(x) if not self.training or random.random() < 0.5 else x[:, :1]


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x + torch.from_numpy(np.random.randn(3).astype("float32")))


class Annealed(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * min(1, self.calls / 10)


@pytest.mark.parametrize(
    ("layer", "changes"),
    [
        (Stochastic, "Python's random generator"),
        (Noisy, "NumPy's random generator"),
        (Annealed, "model.1.calls"),
    ],
)
def test_what_changes_in_python_from_call_to_call_trains_alone(layer, changes):
    """A trace would take it for a constant: the same for all members and steps."""

    class Changing(Crowded):
        def networks(self, cell):
            return {"model": nn.Sequential(nn.Linear(3, 3), layer(3, 1))}

    with pytest.raises(NotStackable, match=f"{changes} changes as the objective is called"):
        Population(Changing(), cells(2), SHORT)


def test_a_member_s_steps_are_put_where_its_optimizer_counts_them(monkeypatch):
    """A fused Adam on a GPU reads them there when the member goes on alone."""
    placed = []

    def place(optimizer):
        steps = [kept["step"].item() for kept in optimizer.state.values()]
        placed.append((optimizer, set(steps)))

    monkeypatch.setattr(state, "place_steps", place)
    trained = together(Crowded(), cells(2, schedule="adam"), SHORT)
    optimizers = [member.optimizers["player"] for member in trained.members]
    assert placed[-2:] == [(optimizer, {20.0}) for optimizer in optimizers]


def test_what_is_ones_own_trains_alone():
    registry.add("schedules", [brought.Restarts()])
    registry.add("optimizers", [brought.NoBiasDecay()])
    try:
        for name in ("restarts", "no_bias_decay"):
            some = [Cell("regression", "mlp", "mse", name, seed=seed) for seed in (0, 1)]
            with pytest.raises(NotStackable, match=f"{name} is one's own, and trains alone"):
                Population(Regression(), some, BUDGET)
    finally:
        registry.take(())
