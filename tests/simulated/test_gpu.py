"""The simulated GPU itself: it refuses what CUDA refuses, and computes what the CPU computes."""

import gpu
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.axes.parallel import layout

REFUSED = {
    "add": lambda a, b: a + b,
    "add to the CPU's": lambda a, b: a.add_(b),
    "matrix product": lambda a, b: b @ a,
    "linear": lambda a, b: F.linear(b, a),
    "loss": lambda a, b: F.mse_loss(b, a),
    "classes": lambda a, b: F.cross_entropy(b, torch.zeros(4, dtype=torch.int64)),
    "cat": lambda a, b: torch.cat([a, b]),
    "stack of scalars": lambda a, b: torch.stack([torch.tensor(1.0), b.sum()]),
    "gather": lambda a, b: b.gather(0, torch.zeros(1, 4, dtype=torch.int64)),
    "embedding": lambda a, b: F.embedding(torch.tensor([0]), b),
    "the CPU's, indexed": lambda a, b: a[b > 0],
    "values put": lambda a, b: b.index_put_((torch.tensor([0, 1]),), torch.ones(2, 4)),
    "batch norm": lambda a, b: nn.BatchNorm1d(4).eval()(b),
    "foreach": lambda a, b: torch._foreach_add_([b], [a]),
    "the CPU's generator": lambda a, b: torch.randn(3, device="cuda", generator=torch.Generator()),
    "numpy": lambda a, b: b.numpy(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_cuda_refuses(name, log):
    a, b = torch.ones(4, 4), torch.ones(4, 4).to("cuda")
    with pytest.raises(
        (gpu.MixedError, RuntimeError, TypeError), match=r"device|cuda|CPU|generator"
    ):
        REFUSED[name](a, b)


def test_it_allows_what_cuda_allows(log):
    a, b, one = torch.arange(4.0), torch.arange(4.0).to("cuda"), torch.tensor(1.0)
    for allowed in (b + one, one + b, b[torch.tensor([0, 2])], torch.where(b > 0, b, one)):
        assert allowed.device == gpu.GPU
    assert b.copy_(a).tolist() == a.copy_(b).tolist() == [0, 1, 2, 3]


def test_what_is_turned_in_place_has_another_shape(log):
    x = torch.arange(6.0).reshape(2, 3).to("cuda")
    assert x.t_().shape == (3, 2) and x.unsqueeze_(0).squeeze_(0).transpose_(0, 1).shape == (2, 3)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_it_counts_copies_and_waits(log):
    x = torch.ones(8).to("cuda")
    with log.phase("counted"):
        x.sum().item()
        x[x > 0]
        x.cpu()
        torch.tensor([1.0, 2.0], device="cuda")
        x[torch.tensor([1])]
        torch.ones(8).pin_memory().to("cuda", non_blocking=True)
    assert log.counts("counted") == {"wait": 2, "d2h": 1, "h2d": 2, "h2d-async": 1}


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop"])
def test_it_trains_as_the_cpu_does(kind, log):
    def train(device):
        torch.manual_seed(0)
        parts = [nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2)]
        parts += [nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)]
        network = nn.Sequential(*parts).to(device)
        optimizer = getattr(torch.optim, kind)(network.parameters(), lr=0.01)
        draw, losses = torch.Generator().manual_seed(1), []
        for _ in range(5):
            x = torch.randn(16, 1, 8, 8, generator=draw).to(device)
            y = torch.randint(3, (16,), generator=draw).to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    assert train("cuda") == pytest.approx(train("cpu"), rel=1e-6)


def test_powersgd_leaves_the_gpu_s_random_numbers_as_they_were(log, monkeypatch):
    """Its own hook seeds all GPUs, and forks the CPU's numbers only."""

    class Bucket:
        def buffer(self):
            return torch.zeros(3, device="cuda")

    monkeypatch.setattr(layout.powerSGD_hook, "powerSGD_hook", lambda *_: torch.manual_seed(7))
    before = torch.cuda.get_rng_state(0), torch.get_rng_state()
    layout._compress(None, Bucket())
    assert torch.equal(torch.cuda.get_rng_state(0), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
