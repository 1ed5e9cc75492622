"""Muon on matrices and AdamW on all else are torch's own, as one optimizer."""

import copy

import torch
from torch import nn, optim

from harness.axes.muon import Muon
from harness.axes.optimizers import OptimizerSpec


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(net, optimizers, steps=4):
    torch.manual_seed(1)
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        net(torch.randn(5, 4)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


def test_it_is_torchs_muon_and_adamw():
    one, two = network(), network()
    matrices = [p for p in two.parameters() if p.ndim == 2]
    others = [p for p in two.parameters() if p.ndim != 2]
    own = train(one, [Muon(one.parameters(), lr=0.02, weight_decay=0.1, betas=(0.8, 0.9))])
    torchs = train(
        two,
        [
            optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            optim.AdamW(others, lr=0.02, weight_decay=0.1, betas=(0.8, 0.9), fused=True),
        ],
    )
    assert all(map(torch.equal, own, torchs))


def test_complex_parameters_train_under_every_optimizer():
    for kind in ("sgd", "adam", "rmsprop", "adamw", "muon"):
        torch.manual_seed(0)
        real, matrix = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(3, 3).cfloat())
        optimizer = OptimizerSpec(kind, lr=0.01).build(kind, [real, matrix])
        before = (real.cfloat() @ matrix).abs().square().mean()
        before.backward()
        optimizer.step()
        assert (real.cfloat() @ matrix).abs().square().mean() < before, kind


def test_real_parameters_are_fused():
    (group,) = OptimizerSpec("adam", lr=0.1).build("adam", network().parameters()).param_groups
    assert group["fused"] is True


def test_its_state_comes_back_and_goes_on_alike():
    one = network()
    first = Muon(one.parameters(), lr=0.02)
    train(one, [first])
    two = copy.deepcopy(one)
    second = Muon(two.parameters(), lr=0.02)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert all(map(torch.equal, train(one, [first]), train(two, [second])))


def test_groups_keep_their_own_settings():
    net = network()
    groups = [
        {"params": [p], "lr": rate} for p, rate in zip(net.parameters(), (1, 2, 3, 4), strict=True)
    ]
    optimizer = Muon(groups, lr=0.5, weight_decay=0.25)
    assert [(g["lr"], g["matrices"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (1, True, 0.25),
        (2, False, 0.25),
        (3, True, 0.25),
        (4, False, 0.25),
    ]
