"""A topic of one's own on a simulated GPU, from tensors and from a Dataset that augments."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from harness import checkpoint
from harness.cell import Budget, Cell
from harness.topics import Supervised
from harness.training.loop import Training

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
CELL = Cell("mine", "mlp", "ce", "cosine")
BUDGET = Budget(steps=8, batch_size=16)


def mlp(outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


def pair():
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(1)


class Noisy(Dataset):
    def __len__(self):
        return 120

    def __getitem__(self, index):
        x, y = pair()
        return x[index] + 0.1 * torch.randn(4), int(y[index])


class Recurrent(nn.Module):
    """Reads a sample's four numbers one by one."""

    def __init__(self, outputs, kind, bias):
        super().__init__()
        self.cell = getattr(nn, kind)(1, 8, batch_first=True, bias=bias)
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        return self.last(self.cell(x[..., None])[0][:, -1])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_recurrent_network_trains_there_as_on_the_cpu(log, kind, bias):
    made = partial(Recurrent, kind=kind, bias=bias)
    topic = Supervised("mine", models={"mlp": made}, data=pair, task="classification")
    own, there = (Training(topic, CELL, BUDGET, device) for device in (GPU, CPU))
    for one in (own, there):
        one.run(5)
    for name, parameter in there.networks["model"].named_parameters():
        found = own.networks["model"].get_parameter(name).cpu()
        torch.testing.assert_close(found, parameter, rtol=1e-5, atol=1e-6, msg=name)
    assert own.evaluate()["accuracy"] == there.evaluate()["accuracy"]


@pytest.mark.parametrize("data", [pair, Noisy])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_it_trains_there_as_on_the_cpu_without_a_wait_and_comes_back(log, tmp_path, data, task):
    topic = Supervised("mine", models={"mlp": mlp}, data=data, task=task)
    own, there = Training(topic, CELL, BUDGET, GPU), Training(topic, CELL, BUDGET, CPU)
    own.advance()
    with log.phase("step"):
        own.advance()
    counts = log.counts("step")
    assert counts.get("wait", 0) == counts.get("h2d", 0) == counts.get("d2h", 0) == 0
    there.run(2)
    losses = [torch.stack(one.losses).cpu() for one in (own, there)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    checkpoint.save(tmp_path / "middle.pt", own.state_dict())
    again = Training(topic, CELL, BUDGET, GPU)
    again.load_state_dict(checkpoint.load(tmp_path / "middle.pt"))
    for one in (own, again):
        one.run(5)
    assert torch.equal(torch.stack(own.losses).cpu(), torch.stack(again.losses).cpu())
    assert own.evaluate().keys() >= set(list(topic.directions)[:1]) and own.validate()
