"""A training to choose by is validated as any other is."""

import torch
from toy import Toy

from harness.cell import Budget, Cell, Status
from harness.trial.choosing import choose
from harness.trial.task import Task


class Smooth(Toy):
    """Judged by how steep its network is, for which validation needs gradients."""

    def validate(self, networks, cell):
        x = self._data(1)[0].requires_grad_()
        (steep,) = torch.autograd.grad(networks["model"](x).sum(), x)
        return {"mse": steep.square().mean().item(), "r2": 0.0}


def test_validation_may_need_gradients():
    cell = Cell("toy", "line", "mse", "cosine")
    found = choose(Task(Smooth(), cell, Budget(3, 8), None))
    assert found.status is Status.DONE and found.validation["mse"] > 0 and not found.metrics
