"""Members of populations with several players against the same cells trained alone."""

from dataclasses import dataclass

import pytest
import torch
from toy_population import SHORT, Crowded, Duel, alone, cells, differ, together, weights, weights_of

from harness import checkpoint
from harness.axes import schedules
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.topics.generators.gan import GAN
from harness.topics.generators.style_gan import StyleGAN
from harness.training import agreement
from harness.training.loop import Diverged, Training
from harness.training.population.population import Population

SGD = OptimizerSpec("sgd", lr=0.01, momentum=0.5)


@dataclass(frozen=True)
class PlainGAN(GAN):
    def base_optimizer(self, model):
        return SGD


@dataclass(frozen=True)
class PlainStyleGAN(StyleGAN):
    def base_optimizer(self, model):
        return SGD


@pytest.mark.parametrize(
    ("topic", "model", "loss"),
    [
        (PlainGAN(), "dcgan", "hinge"),
        (PlainGAN(), "dcgan", "ce"),
        (PlainGAN(), "wgan_gp", "hinge"),
        (PlainStyleGAN(), "style_gan", "ce"),
    ],
)
def test_a_game_under_sgd_is_the_one_trained_alone(topic, model, loss):
    """Under Adam a gradient that is zero but for rounding would be a whole step.

    style_gan's loss of ce gives its critic another rate than its painter.
    """
    budget = Budget(steps=40, batch_size=16)
    names = ("constant", "cosine")
    some = [Cell(topic.name, model, loss, name, seed=s) for name in names for s in (0, 1)]
    trained = Population(topic, some, budget)
    trained.run(2)
    trained.update_members()
    trained.update_histories()
    for member in trained.members:
        single = Training(topic, member.cell, budget)
        begun = {name: weights_of(network) for name, network in single.networks.items()}
        single.run(2)
        for name, start in begun.items():
            moved = (weights_of(own.networks[name]) - start for own in (single, member))
            assert differ(*moved) < 1e-4
        assert agreement.difference(single.curve(), member.curve()) <= agreement.TOLERANCE
        assert member.rates == single.rates
        assert torch.equal(member.generator.get_state(), single.generator.get_state())


@pytest.mark.parametrize("topic", [Duel(), Crowded(turns=2)])
def test_turns_and_players_are_those_alone_under_every_schedule(topic):
    some = [Cell("toy", "line", "mse", name, seed=s) for s in (0, 1) for name in schedules.NAMES]
    for member in together(topic, some, SHORT).members:
        single = alone(topic, member.cell, SHORT)
        assert differ(weights(single), weights(member)) < 1e-5
        assert member.rates == single.rates
        assert agreement.difference(single.curve(), member.curve()) <= agreement.TOLERANCE
        for name, optimizer in single.optimizers.items():
            own = member.optimizers[name]
            assert own.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
            taken = [[float(s.get("step", 0)) for s in o.state.values()] for o in (own, optimizer)]
            assert taken[0] == taken[1]


@pytest.mark.parametrize("schedule", ["cosine", "adam", "plateau"])
def test_a_game_resumes_bit_for_bit(schedule):
    some = cells(3, schedule=schedule)
    whole = Population(Duel(), some, SHORT)
    whole.run(9)
    whole.update_members()
    kept = [member.state_dict() for member in whole.members]
    resumed = Population(Duel(), some, SHORT)
    for member, snapshot in zip(resumed.members, kept, strict=True):
        member.load_state_dict(snapshot)
    resumed.update_rows()
    for trained in (whole, resumed):
        trained.run(20)
        trained.update_members()
    ends = [checkpoint.digest([m.state_dict() for m in p.members]) for p in (whole, resumed)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(("broken", "seed"), [({"explode": True}, 3), ({"fail": True}, 2)])
def test_one_that_comes_to_nothing_ends_as_alone_and_leaves_the_others_as_they_were(broken, seed):
    calm, wild = (together(Duel(**how), cells(), SHORT) for how in ({}, broken))
    with pytest.raises(Diverged) as single:
        alone(Duel(**broken), cells()[seed], SHORT)
    assert {c.seed: str(e) for c, e in wild.ended.items()} == {seed: str(single.value)}
    for first, second in zip(calm.members, wild.members, strict=True):
        if first.cell.seed != seed:
            assert torch.equal(weights(first), weights(second))
            assert first.curve() == second.curve()
