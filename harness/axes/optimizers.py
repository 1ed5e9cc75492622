"""The optimizers that train a player's parameters: PyTorch's own SGD, Adam and RMSprop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn, optim

from harness.cell import unknown

KINDS = ("sgd", "adam", "rmsprop")
Make = Callable[..., optim.Optimizer]  # (class, parameters, **settings) -> optimizer


def make_optimizer(
    kind: Make, parameters: Iterable[nn.Parameter], **settings: Any
) -> optim.Optimizer:
    """Build an optimizer of class ``kind`` for a single process: the default ``make``."""
    return kind(parameters, **settings)


@dataclass(frozen=True)
class OptimizerSpec:
    """Which optimizer moves a player's parameters, and its settings.

    kind: sgd, adam or rmsprop. adaptive_lr is the rate of the schedules adam and rmsprop, which
    bring their own optimizer. Raises UsageError if the kind is unknown.
    """

    kind: str
    lr: float
    adaptive_lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("optimizer", self.kind, KINDS)

    def scaled(self, rate: float) -> OptimizerSpec:
        """Return the same optimizer with ``rate`` times its learning rates."""
        return replace(self, lr=rate * self.lr, adaptive_lr=rate * self.adaptive_lr)

    def build(
        self,
        kind: str,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        make: Make = make_optimizer,
    ) -> optim.Optimizer:
        """Build torch's optimizer ``kind``, at ``lr`` if that is its own, else at ``adaptive_lr``.

        parameters: or torch's groups of them; one with an ``lr`` keeps its ratio to the others'.
        make: puts class, parameters and settings together, as ``parallel.Layout.optimizer`` does.
        Raises UsageError if the kind is unknown.
        """
        rate = self.lr if kind == self.kind else self.adaptive_lr
        settings: dict[str, Any] = {"lr": rate, "weight_decay": self.weight_decay}

        def in_proportion(group: Any) -> Any:
            own = isinstance(group, dict) and "lr" in group
            return group | {"lr": group["lr"] * (rate / self.lr)} if own else group

        parameters = [in_proportion(group) for group in parameters]
        if kind == "sgd":
            return make(optim.SGD, parameters, momentum=self.momentum, **settings)
        if kind == "adam":
            return make(optim.Adam, parameters, betas=self.betas, fused=True, **settings)
        if kind == "rmsprop":
            return make(optim.RMSprop, parameters, **settings)
        raise unknown("optimizer", kind, KINDS)
