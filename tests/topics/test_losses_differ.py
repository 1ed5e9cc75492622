"""No two cells of a topic are the same training under two names."""

import itertools

import pytest
import torch

from harness import matrix
from harness.axes import losses
from harness.cell import Cell
from harness.checkpoint import digest
from harness.topics.registry import registered_topics
from harness.training.loop import Training

TOPICS = registered_topics()
MODELS = [(name, topic.models[0]) for name, topic in sorted(TOPICS.items())]


@pytest.mark.parametrize(("name", "model"), [*MODELS, ("regression", "mlp"), ("gan", "wgan_gp")])
def test_each_loss_is_a_training_of_its_own(name, model):
    topic = TOPICS[name]
    digests = {}
    for loss in losses.FAMILIES:
        cell = Cell(name, model, loss, "constant")
        if matrix.skip_reason(topic, cell):
            continue
        training = Training(topic, cell, topic.budget("smoke", model))
        for _ in range(60 if name == "rl" else 2):  # rewards of 1 are errors beyond any epsilon
            training.advance()
        states = {n: dict(network.state_dict()) for n, network in training.networks.items()}
        digests[loss] = digest(states)
    assert digests
    for a, b in itertools.combinations(digests, 2):
        assert digests[a] != digests[b], f"{name}/{model} under {a} and {b} is the same training"


def test_trees_of_one_criterion_are_trained_once():
    topic = TOPICS["regression"]
    for model in topic.fits:
        kept = {}
        for loss in losses.FAMILIES:
            cell = Cell("regression", model, loss, "constant")
            if matrix.skip_reason(topic, cell) is None:
                kept[loss] = topic.evaluate({"model": topic.fit(cell)}, cell)["mse"]
        assert len(set(kept.values())) == len(kept) == 3
    reason = matrix.skip_reason(topic, Cell("regression", "tree", "kl", "constant"))
    assert reason == "trees under kl are those under ce: both split by entropy"


def test_kl_of_numbers_has_another_gradient_than_ce():
    outputs_NW = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    target_N = torch.tensor([-3.9, -1.0, 0.01, 2.22, 3.9])
    gradients = []
    for family in ("ce", "kl"):
        leaf = outputs_NW.clone().requires_grad_()
        losses.numeric(family, -4, 4).loss(leaf, target_N).sum().backward()
        gradients.append(leaf.grad)
    assert not torch.allclose(*gradients, atol=1e-3)
