"""Under every family the tasks weigh alike, and a rare digit is worth learning."""

import dataclasses

import pytest
import torch

from harness.axes import losses
from harness.topics import datasets
from harness.topics.multitask.scenes import MOST, Canvas
from harness.topics.multitask.task_losses import (
    PRESENT,
    VOTES,
    answers_form,
    present,
    sides_form,
    task_losses,
)

CATEGORICAL = losses.categorical
CANVAS = Canvas(24, 3)


@pytest.fixture(scope="module")
def scenes():
    split, generator = datasets.images("digits"), torch.Generator().manual_seed(0)
    counts = torch.randint(1, MOST + 1, (2000,), generator=generator)
    return CANVAS.compose(split.train_x, split.train_y, counts, generator)


@pytest.mark.parametrize("family", losses.FAMILIES)
def test_ignorance_costs_under_each_family_what_it_costs_under_ce(family):
    for answers in (2, 11):
        target = torch.arange(answers)
        loss = answers_form(family, answers).loss(torch.zeros(answers, answers), target)
        torch.testing.assert_close(loss.mean(), torch.tensor(float(answers)).log())
    form, target = sides_form(family), torch.linspace(-4, 4, 33)
    loss = form.loss(torch.zeros(33, form.width), target)
    torch.testing.assert_close(loss.mean(), torch.tensor(32.0).log(), rtol=1e-3, atol=0)


def test_ce_is_left_bit_for_bit():
    outputs, target = torch.randn(50, 11), torch.randint(11, (50,))
    plain = losses.categorical("ce", 11).loss(outputs, target)
    assert torch.equal(answers_form("ce", 11).loss(outputs, target), plain)
    outputs, value = torch.randn(50, 32), 2 * torch.randn(50)
    plain = losses.numeric("ce", -4, 4).loss(outputs, value)
    assert torch.equal(sides_form("ce").loss(outputs, value), plain)


@pytest.mark.parametrize("constant", [0.0, -1.0])
def test_a_loss_that_costs_nothing_at_zero_is_not_turned_around(constant, monkeypatch):
    """Of one's own: what counts the true answer's output with a minus."""

    def minus_the_true_one(outputs, target):
        return constant - outputs.gather(-1, target[..., None]).squeeze(-1)

    mine = dataclasses.replace(CATEGORICAL("ce", 11), loss=minus_the_true_one)
    found = {"mine": mine, "ce": CATEGORICAL("ce", 11)}
    monkeypatch.setattr(losses, "categorical", lambda name, _: found[name])
    loss, target = answers_form("mine", 11).loss, torch.zeros(1, dtype=torch.int64)
    right, wrong = torch.eye(11)[:1], torch.eye(11)[1:2]
    assert loss(right, target) < loss(wrong, target)


def test_present_is_as_often_as_it_says(scenes):
    assert present(scenes.label).float().mean().item() == pytest.approx(PRESENT, abs=0.005)


@pytest.mark.parametrize("family", losses.FAMILIES)
def test_to_call_every_digit_absent_is_no_resting_place(family, scenes):
    """Of one answer for all digits, the best is the prior probability, or under a vote no answer.

    Without equal halves hinge and mae rest at *absent*, whatever a scene shows.
    """
    loss = task_losses(family, CANVAS)["classification"]
    batch = {"label": scenes.label}

    def cost(margin):
        outputs = torch.tensor([0.0, margin]).expand(len(scenes.label), 10, 2)
        return loss(outputs, batch).item()

    if family in VOTES:
        assert cost(-1) == pytest.approx(cost(0), rel=0.03) == pytest.approx(cost(1), rel=0.03)
    else:
        at = torch.tensor(PRESENT / (1 - PRESENT)).log().item()
        assert cost(at) < cost(0) and cost(at) < cost(-12)
