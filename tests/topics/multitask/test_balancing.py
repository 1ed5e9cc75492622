"""Projected gradients and learned uncertainty: by hand, by law, and against closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.topics.multitask.balancing import Uncertainty, pcgrad, project

vectors = st.lists(st.floats(-9, 9, allow_subnormal=False), min_size=4, max_size=4)
ORDER = torch.arange(3).repeat(3, 1)


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_two_tasks_by_hand():
    """(1, 0) and (-1, 1) conflict: the first loses its part along the second, and the reverse."""
    found = project(tensor([1, 0], [-1, 1]), ORDER[:2, :2])
    torch.testing.assert_close(found, tensor([0.5, 0.5], [0, 1]))


def test_the_order_of_three_tasks_matters_and_is_followed():
    g = tensor([1, 0], [-1, 1], [-1, -2])
    first = project(g, ORDER)[0]
    other = project(g, torch.tensor([[2, 1, 0]] * 3))[0]
    # (1, 0) after (-1, 1): (.5, .5); then after (-1, -2): less (-1.5 / 5) (-1, -2)
    torch.testing.assert_close(first, tensor([0.2, -0.1])[0])
    # (1, 0) after (-1, -2): (.8, -.4); then after (-1, 1): less (-1.2 / 2) (-1, 1)
    torch.testing.assert_close(other, tensor([0.2, 0.2])[0])


@given(vectors, vectors)
def test_two_projected_gradients_do_not_conflict_and_are_no_longer(one, other):
    g = tensor(one, other)
    found = project(g, ORDER[:2, :2])
    scale = 1e-9 * (1 + g.square().sum())
    assert found[0] @ g[1] >= -scale and found[1] @ g[0] >= -scale
    assert found[0] @ found[1] >= -scale
    assert (found.norm(dim=1) <= g.norm(dim=1) + scale).all()
    if g[0] @ g[1] >= 0:
        assert torch.equal(found, g), "without a conflict nothing changes"


@given(vectors, vectors, vectors, st.permutations(range(3)))
def test_the_last_one_met_is_no_longer_in_conflict(a, b, c, order):
    g = tensor(a, b, c)
    found = project(g, torch.tensor([order] * 3))
    for i in range(3):
        last = [j for j in order if j != i][-1]
        assert found[i] @ g[last] >= -1e-9 * (1 + g.square().sum())


def two_tasks(seed=0):
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(3, 5), nn.Tanh()).double()
    heads = [nn.Linear(5, 1).double(), nn.Linear(5, 1).double()]
    x = torch.randn(16, 3, dtype=torch.float64)
    z = trunk(x)
    targets = (x[:, :1], -x[:, :1])
    losses = torch.stack([(h(z) - t).square().mean() for h, t in zip(heads, targets, strict=True)])
    return trunk, heads, losses


@pytest.mark.parametrize("seed", range(5))
def test_the_surrogate_has_the_projected_gradient_and_the_losses_sum(seed):
    trunk, heads, losses = two_tasks(seed)
    rows = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, trunk.parameters(), retain_graph=True)]
        )
        for loss in losses
    ]
    expected = project(torch.stack(rows), ORDER[:2, :2]).sum(0)
    own = [
        torch.autograd.grad(loss, head.parameters(), retain_graph=True)
        for loss, head in zip(losses, heads, strict=True)
    ]
    value = pcgrad(losses, trunk, heads, ORDER[:2, :2])
    assert value.item() == pytest.approx(losses.sum().item(), rel=1e-12)
    value.backward()
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in trunk.parameters()]), expected)
    for head, gradients in zip(heads, own, strict=True):
        for parameter, gradient in zip(head.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_some_of_these_gradients_conflict():
    conflicts = 0
    for seed in range(5):
        trunk, _, losses = two_tasks(seed)
        a, b = (
            torch.autograd.grad(loss, next(trunk.parameters()), retain_graph=True)[0]
            for loss in losses
        )
        conflicts += bool((a * b).sum() < 0)
    assert conflicts


def test_uncertainty_is_its_closed_form_and_its_minimum():
    balance = Uncertainty(2).double()
    losses = tensor([0.5, 3.0])[0]
    assert balance(losses).item() == pytest.approx(3.5), "equal weights at the start"
    with torch.no_grad():
        balance.log_variance_T.copy_((2 * losses).log())
    value = balance(losses)
    assert value.item() == pytest.approx(sum(0.5 + math.log(2 * v) / 2 for v in (0.5, 3.0)))
    value.backward()
    torch.testing.assert_close(balance.log_variance_T.grad, torch.zeros(2, dtype=torch.float64))
