"""First steps beside single's: what is compared, what makes a cell inexact, and what fails it."""

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth
from toy import BUDGET, Toy

from harness.axes import parallel
from harness.cell import Cell, Status
from harness.topics.generators.style_gan import StyleGAN
from harness.training.loop import Training
from harness.training.topic import Player
from harness.trial import buffers, parity
from harness.trial.draws import Draws
from harness.trial.outcome import Outcome, Parity
from harness.trial.parity import FirstSteps
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine", "ddp")
GRADIENT = torch.tensor([3.0, 4.0])


def task(name="ddp", ranks=2, accumulate=1):
    cell = replace(CELL, parallel=name)
    return Task(Toy(), cell, BUDGET, Path(), world_size=ranks, accumulate=accumulate)


def steps(*losses, gradient=GRADIENT, **found):
    return FirstSteps(list(losses), [gradient], **found)


def compared(alone, got, **of):
    return parity.compare(alone, got, task(**of))


def test_what_agrees_up_to_rounding_is_equal():
    found = compared(steps(2.0, 1.0), steps(2.0, 1.0001))
    assert found == Parity(pytest.approx(1e-4, rel=1e-2), 2, True, True, "")


@pytest.mark.parametrize(
    ("got", "apart"),
    [
        (steps(2.6, 1.0), "first losses differ by 0.3, the first gradient by 0 (relative, 0.001"),
        (steps(2.0, 1.2), "first losses differ by 0.2, the first gradient by 0"),
        (steps(2.0, 1.0, gradient=torch.tensor([3.0, 4.5])), "by 0, the first gradient by 0.1"),
        (steps(2.0, math.nan), "first losses differ by inf"),
    ],
)
def test_what_does_not_is_not_and_both_differences_are_said(got, apart):
    found = compared(steps(2.0, 1.0), got)
    assert found.exact and found.equal is False
    assert apart in found.reason and "no layer, buffer or random number explains it" in found.reason


def test_a_sum_over_the_batch_is_recognised():
    of = {"ranks": 2, "accumulate": 3}
    found = compared(steps(12.0, 9.0), steps(2.0, 5.0, gradient=GRADIENT / 6), **of)
    assert found.equal is False and "they are 1/6 of single's, as if its objective" in found.reason


def test_trainings_that_both_diverge_are_equal():
    nan = torch.tensor([math.nan, 1.0])
    found = compared(steps(2.0, math.nan, gradient=nan), steps(2.0, math.inf, gradient=nan))
    assert found.equal and found.difference == 0


def test_a_loss_whose_terms_cancel_is_not_compared_with_zero():
    assert compared(steps(1e-9, 0.0), steps(-2e-9, 1e-8)).equal
    assert compared(steps(1e-9, 0.0), steps(1e-9, 1e-5)).equal is False


def test_all_that_makes_a_cell_inexact_is_named_once():
    alone = steps(1.0, layers=("Net in body: random numbers", "Dropout in body: random numbers"))
    alone = replace(alone, objectives=("objective of player: random numbers",))
    layers = ("BatchNorm1d in body: statistics", "Dropout in body: random numbers")
    found = compared(alone, steps(5.0, layers=layers), name="ddp_bf16")
    assert not found.exact and found.equal is None
    assert found.reason.split("; ") == [
        "gradients travel in bfloat16",
        "BatchNorm1d in body: statistics per rank",
        "Dropout in body: random numbers per rank",
        "Net in body: random numbers per rank",
        "objective of player: random numbers per rank",
    ]
    whole = compared(alone, steps(1.0, layers=layers), ranks=1)
    assert whole.exact and whole.equal
    # dp shares a batch out inside of its networks: its objective sees the whole
    split = compared(alone, steps(1.0, layers=layers), name="dp", ranks=1)
    assert "Net in body: random numbers per GPU" in split.reason
    assert "objective" not in split.reason


def test_a_single_process_may_have_made_more_steps():
    assert compared(steps(2.0, 1.0, 0.5), steps(2.0, 1.0)).steps == 2


@pytest.mark.parametrize("name", parallel.NAMES)
def test_an_inexact_configuration_is_compared_until_a_loss_has_seen_why(name):
    seen = {"ddp_powersgd": parallel.COMPRESS_FROM + 2, "local_sgd": parallel.AVERAGE_EVERY + 1}
    assert parity.steps_of(name) == seen.get(name, 2)


UNEQUAL = Parity(0.3, 2, True, False, "first losses differ")


def test_an_outcome_fails_only_where_what_was_promised_does_not_hold():
    done = Outcome(metrics={"mse": 1.0})
    for found in (replace(UNEQUAL, equal=True), replace(UNEQUAL, exact=False, equal=None)):
        assert done.with_parity(found, "ddp") == replace(done, parity=found)
    failed = done.with_parity(UNEQUAL, "ddp")
    assert (failed.status, failed.metrics) == (Status.FAILED, done.metrics)
    assert failed.reason == "ddp is not single's training: first losses differ"
    assert not failed.failed  # another attempt would find the same
    diverged = replace(done, status=Status.DIVERGED, reason="the loss is not finite at step 3")
    assert diverged.with_parity(UNEQUAL, "ddp").reason.endswith(
        "; the loss is not finite at step 3"
    )


class Drawing(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.inner, self.draw = nn.Linear(3, 1), draw

    def forward(self, x):
        return self.inner(x) + self.draw(x)


DRAWS = {
    "F.dropout": lambda x: F.dropout(x, 0.5).mean(),
    "torch": lambda x: torch.randn(1),
    "numpy": lambda x: float(np.random.rand()),
    "python": lambda x: random.random(),
    "nothing": lambda x: 0.0,
}


def watched(network, draw=lambda x: 0.0):
    """The training of a network, and what drew while its loss, with a draw of its own, was made."""

    class Topic(Toy):
        def networks(self, cell):
            return {"model": network}

        def players(self, cell):
            def objective(networks, batch):
                error = networks["model"](batch["x"]).squeeze(1) - batch["y"]
                return error.square().mean() + draw(error)

            return [Player("player", ("model",), objective, self.base_optimizer(cell.model))]

    training = Training(Topic(), replace(CELL, parallel="single"), BUDGET)
    draws = Draws(training)
    training.run(2)
    return list(draws.layers), list(draws.objectives)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_found_in_layers_and_in_the_objective(name):
    drawn = name != "nothing"
    inside, outside = ["Drawing in model: random numbers"], ["objective of player: random numbers"]
    assert watched(Drawing(DRAWS[name])) == (inside * drawn, [])
    assert watched(Drawing(DRAWS["nothing"]), DRAWS[name]) == ([], outside * drawn)
    assert watched(Drawing(DRAWS[name]), DRAWS[name]) == (inside * drawn, outside * drawn)


def test_the_innermost_layer_is_blamed():
    deep = nn.Sequential(nn.Linear(3, 8), nn.Sequential(nn.Dropout(0.5)), nn.Linear(8, 1))
    assert watched(deep) == (["Dropout in model: random numbers"], [])
    depth = nn.Sequential(nn.Linear(3, 8), StochasticDepth(0.5, "row"), nn.Linear(8, 1))
    assert watched(depth) == (["StochasticDepth in model: random numbers"], [])


def test_watching_changes_no_number():
    def losses(watch):
        training = Training(Toy(), replace(CELL, model="dropout", parallel="single"), BUDGET)
        if watch:
            Draws(training)
        training.run(5)
        return [loss.item() for loss in training.losses]

    assert losses(True) == losses(False)


class Counts(nn.Module):
    """A linear layer that counts its calls, and remembers what it sees."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("unset", torch.full((3,), math.nan))
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        self.calls += 1
        self.mean.lerp_(x.detach().mean(0), 0.1)
        return self.line(x)


class Counted(Toy):
    def networks(self, cell):
        return {"model": Counts()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_buffer_that_follows_each_part_of_a_batch_is_named(accumulate):
    of = Task(Counted(), replace(CELL, parallel="single"), BUDGET, Path(), accumulate=accumulate)
    alone = parity.first_steps(replace(of, accumulate=1), 0)
    assert [name for _, name in alone.buffers] == ["calls", "mean"]
    reasons = parity.inexact(alone, parity.first_steps(of, 0), of)
    assert reasons == ["Counts in model: buffer mean per part"] * (accumulate - 1)


def test_buffers_are_named_up_to_rounding_once_and_not_of_layers_whose_statistics_are_known():
    whole = {("Code in model", f"c.{n}"): torch.ones(2) for n in "abcd"}
    part = {key: value + 1e-5 for key, value in whole.items()}
    assert buffers.apart(whole, part, tolerance=1e-3) == []
    assert buffers.apart(whole, part) == ["Code in model: buffers c.a, c.b, c.c and 1 more"]
    assert buffers.apart(whole, {}, ["Code in model: statistics"]) == []
    assert buffers.apart(whole, {}, ["Code in model: random numbers"]) != []


def test_adam_does_not_turn_rounding_into_difference():
    """Some of this critic's gradients are zero but for rounding, which Adam makes a whole step."""
    cell = Cell("style_gan", "style_gan", "hinge", "constant", seed=2)
    budget = StyleGAN.budgets["quick"]
    found = parity.measure(Task(StyleGAN(), cell, budget, Path(), accumulate=2), 0)
    assert found.equal and found.difference < 1e-4
