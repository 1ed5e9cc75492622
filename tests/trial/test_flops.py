"""FLOPs of a step, and what a device's maker says that it can do."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.cell import Cell
from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.trial import flops

TOPICS = registered_topics()
MODELS = [
    *(("gan", "dcgan"), ("multitask", "pcgrad"), ("pixelcnn", "pixelcnn"), ("regression", "svr")),
    *(("rl", "policy_gradient"), ("style_gan", "style_gan"), ("vae", "vae"), ("vgg", "vgg11")),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def training(topic, model):
    cell = Cell(topic, model, *TOPICS[topic].recipe)
    return Training(TOPICS[topic], cell, TOPICS[topic].budget("smoke", model))


@pytest.mark.parametrize(("topic", "model"), MODELS)
def test_a_step_has_as_many_as_pytorch_counts(topic, model):
    own = training(topic, model)
    with FlopCounterMode(display=False) as counter:
        own.advance()
    assert flops.count(training(topic, model).advance) == counter.get_total_flops() > 0


def test_a_gradient_of_a_gradient_counts_each_of_its_products():
    layer = nn.Linear(5, 7, bias=False)
    x = torch.randn(3, 5, requires_grad=True)

    def penalty():
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward(inputs=[layer.weight])

    # x W' forward; its gradient of x; of that the gradients of W and of x W'; through it W again
    assert flops.count(penalty) == 5 * (2 * 3 * 5 * 7)


def test_a_penalty_on_a_critic_s_gradient_counts():
    whole = training("gan", "wgan_gp")
    plain = sum(2 * p.numel() for n in whole.networks.values() for p in n.parameters())
    assert flops.count(whole.advance) > whole.budget.batch_size * plain


def test_a_measured_peak_is_that_of_the_quickest_product(monkeypatch):
    ticks = iter([0.0, 9.0, 10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr(flops.time, "perf_counter", ticks.__next__)
    assert flops.measured_peak(CPU, size=10, rounds=2) == 2 * 10**3 / 2.0


@pytest.mark.parametrize(
    ("name", "fp32"),
    [
        ("NVIDIA H200", 67e12),
        ("NVIDIA H100 80GB HBM3", 67e12),
        ("NVIDIA H100 PCIe", 51e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A10G", None),
    ],
)
def test_a_maker_s_peak_is_that_of_the_very_card(name, fp32, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    found = flops.makers_peak(GPU)
    assert found == fp32 if fp32 is None else found.fp32 == fp32


def test_a_cpu_has_no_maker_s_peak():
    assert flops.makers_peak(CPU) is None


@pytest.mark.parametrize("name", flops.MAKERS)
def test_a_maker_s_peaks_grow_as_precision_falls(name):
    known = [peak for peak in flops.MAKERS[name] if peak is not None]
    assert known == sorted(known) and known[0] > 1e12
