"""A network and a training small enough for every optimizer and schedule of PyTorch's."""

import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler as lrs

from harness.checkpoint import digest, state

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda parameters: optim.SGD(parameters, 0.1, momentum=0.9),
    "adam": lambda parameters: optim.Adam(parameters, 0.01),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, 0.01, momentum=0.5),
}


SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "constant": lambda o: lrs.ConstantLR(o, factor=0.5, total_iters=6),
    "multistep": lambda o: lrs.MultiStepLR(o, [3, 6, 6, 8]),
    "exponential": lambda o: lrs.ExponentialLR(o, 0.9),
    "cosine": lambda o: lrs.CosineAnnealingLR(o, 12),
    "plateau": lambda o: lrs.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "sequential": lambda o: lrs.SequentialLR(
        o, [lrs.LinearLR(o, total_iters=4), lrs.CosineAnnealingLR(o, 8)], [4]
    ),
    "onecycle": lambda o: lrs.OneCycleLR(o, 0.1, 13, cycle_momentum=False),
    "onecycle_momentum": lambda o: lrs.OneCycleLR(o, 0.1, 13),
}


class Net(nn.Module):
    """A body with batch norm (a float32 and an int64 buffer) and a head of ``classes``."""

    def __init__(self, seed: int = 0, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, classes)
        self.head2 = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        return self.head(hidden).square().mean() + self.head2(hidden).sin().mean()


class Run:
    """A small training. Its batches depend on the step alone; all parts share one name."""

    def __init__(self, opt: str = "adam", schedule: str = "cosine", seed: int = 0) -> None:
        self.network = Net(seed)
        self.optimizer = OPTIMIZERS[opt](self.network.parameters())
        self.schedule = SCHEDULES[schedule](self.optimizer)
        self.parts: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = (
            {"model": self.network},
            {"model": self.optimizer},
            {"model": self.schedule},
        )

    def train(self, start: int, end: int) -> "Run":
        for step in range(start, end):
            x = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
            self.optimizer.zero_grad()
            self.network(x).backward()
            self.optimizer.step()
            if isinstance(self.schedule, lrs.ReduceLROnPlateau):
                self.schedule.step(float((step * 7) % 5))
            else:
                self.schedule.step()
        return self

    def state_dict(self, **rest: Any) -> dict[str, Any]:
        return state.snapshot(*self.parts, **rest)

    def digest(self) -> str:
        return digest(self.state_dict())


def canonical(value: Any) -> Any:
    """The same content as a Python value that ``==`` compares bit for bit."""
    if isinstance(value, Tensor):
        raw = value.contiguous().reshape(-1).view(torch.uint8).tolist() if value.numel() else []
        return ("tensor", str(value.dtype), tuple(value.shape), tuple(raw))
    if isinstance(value, dict):
        return ("dict", frozenset((canonical(k), canonical(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(canonical, value)))
    return (type(value).__name__, pickle.dumps(value, 2) if type(value) is float else value)
