"""Which weights learn, and whether they are finite."""

import math

import torch
from torch import nn

from harness.training import weights


def networks():
    mask = nn.Linear(2, 1)
    mask.weight.requires_grad_(False)[:] = -math.inf
    return {"line": nn.Linear(2, 1), "mask": mask, "none": nn.Flatten()}


def test_what_does_not_learn_is_named():
    assert weights.frozen(networks()) == {"mask.weight"}


def test_a_network_is_finite_if_all_that_it_learns_is():
    own = networks()
    kept = weights.frozen(own)
    assert {name: bool(one) for name, one in weights.finite(own, kept).items()} == {
        "line": True,
        "mask": True,
    }
    assert not weights.finite(own, ())["mask"]
    with torch.no_grad():
        own["line"].bias[0] = math.nan
    assert not weights.finite(own, kept)["line"]
