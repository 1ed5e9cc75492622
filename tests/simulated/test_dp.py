"""dp on two simulated GPUs: it trains as single does, whatever its networks return."""

import warnings
from dataclasses import replace

import pytest
import several
import torch
from torch import nn
from toy import Toy

from harness import matrix
from harness.cell import Budget, Cell, UsageError
from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.training.topic import Player

GPU = torch.device("cuda", 0)
TOPICS = registered_topics()
CELLS = [
    cell
    for name, topic in TOPICS.items()
    for model in topic.models
    if model not in topic.fits
    and matrix.skip_reason(topic, cell := Cell(name, model, *topic.recipe, "dp"), 2) is None
]


class Scored(nn.Module):
    """A network that returns its own loss, in the place that a form names."""

    def __init__(self, form):
        super().__init__()
        self.line, self.form = nn.Linear(3, 1), form

    def forward(self, x, y):
        error = (self.line(x)[:, 0] - y).square()
        loss = error.mean()
        return {
            "scalar": loss,
            "one": loss[None],
            "named": {"loss": loss, "parts": (error, None, "mse")},
            "samples": error,
        }[self.form]


class OwnLoss(Toy):
    form = "scalar"

    def networks(self, cell):
        return {"model": Scored(self.form)}

    def players(self, cell):
        def objective(networks, batch):
            found = networks["model"](batch["x"], batch["y"])
            if self.form != "named":
                return found
            assert found["loss"].shape == () and found["parts"][1:] == (None, "mse")
            assert len(found["parts"][0]) == len(batch["x"])
            return found["loss"]

        return [Player("only", ("model",), objective, self.base_optimizer(cell.model))]


def own_loss(form):
    return type("OwnLoss", (OwnLoss,), {"form": form})()


@pytest.fixture(autouse=True)
def gpus(log):
    assert torch.cuda.device_count() == 2
    with several.data_parallel_works(), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def first_steps(topic, cell, batch_size, accumulate=1):
    """Return the first two losses under dp and under single, and the first gradients."""
    for parallel in ("dp", "single"):
        own = Training(
            topic,
            replace(cell, parallel=parallel),
            Budget(steps=40, batch_size=batch_size),
            GPU,
            accumulate=accumulate,
            watched_steps=1,
        )
        own.run(2)
        yield torch.stack(own.losses).flatten().cpu(), own.gradients[0]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_it_trains_as_single_does(cell):
    topic = TOPICS[cell.topic]
    size = topic.budget("smoke", cell.model).batch_size
    (losses, gradient), (expected, of_single) = first_steps(topic, cell, size)
    torch.testing.assert_close(losses[:1], expected[:1], rtol=1e-5, atol=1e-6)
    assert (gradient - of_single).norm() <= 1e-4 * of_single.norm()
    torch.testing.assert_close(losses, expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("form", ["scalar", "one", "named"])
def test_a_loss_of_each_gpu_becomes_their_mean(form, accumulate):
    cell = Cell("toy", "line", "mse", "constant")
    (losses, gradient), (expected, of_single) = first_steps(own_loss(form), cell, 8, accumulate)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradient, of_single)


@pytest.mark.parametrize("form", ["scalar", "one", "named"])
def test_means_of_unequal_shares_are_refused(form):
    cell = Cell("toy", "line", "mse", "constant")
    said = r"dp averages what 2 GPUs return .* \(4, 3 samples\): choose a batch size that 2 divides"
    with pytest.raises(UsageError, match=said):
        next(first_steps(own_loss(form), cell, 7))


def test_losses_of_samples_are_no_loss():
    with pytest.raises(UsageError, match=r"a loss of shape \(8,\): one number is needed"):
        next(first_steps(own_loss("samples"), Cell("toy", "line", "mse", "constant"), 8))
