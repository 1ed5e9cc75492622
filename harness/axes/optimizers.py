"""The optimizers that train a player's parameters: PyTorch's own, and what a project brings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn, optim

from harness.axes.axis import Axis, Value
from harness.axes.muon import Muon, fusable
from harness.axes.parallel.configurations import is_sharded
from harness.cell import UsageError, some_of, unknown

KINDS = ("sgd", "adam", "rmsprop", "adamw", "muon")
Make = Callable[..., optim.Optimizer]  # (class, parameters, **settings) -> optimizer
Named = list[tuple[str, nn.Parameter]]


class Optimizer(Value):
    """A kind of optimizer of one's own: override ``build``, and ``groups`` if not all are alike.

    It is chosen as an ``OptimizerSpec``'s kind, or as a schedule: then it trains at a constant
    rate. If what ``build`` returns has ``train`` and ``eval``, as schedule-free ones have, they are
    called around training and evaluation.
    """

    needs = ("build",)

    def groups(self, named: Named) -> list[dict[str, Any]]:
        """Return torch's parameter groups for named parameters, such as ``model.0.weight``.

        A group's ``lr`` is that at the topic's own rate: it is multiplied as that is.
        """
        return [{"params": [parameter for _, parameter in named]}]

    def build(
        self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float
    ) -> optim.Optimizer:
        """Return the torch optimizer of parameter groups at a learning rate.

        Its ``step`` is called without a closure.
        """
        raise NotImplementedError

    def skip(self, parallel: str) -> str | None:
        """Return why it cannot train under a parallel configuration; None if it can."""
        return None


OPTIMIZERS = Axis("optimizer", Optimizer, KINDS)


def skip_reason(kind: str, parallel: str) -> str | None:
    """Return why an optimizer cannot train under a parallel configuration; None if it can."""
    if own := OPTIMIZERS.own.get(kind):
        return own.skip(parallel)
    if kind == "muon" and parallel == "zero1":
        return "muon has a rule for matrices and one for all else, which zero1 takes for one"
    if kind == "muon" and is_sharded(parallel):
        return f"PyTorch's Muon moves whole matrices only, and {parallel} shards them"
    return None


def make_optimizer(
    kind: Make, parameters: Iterable[nn.Parameter], **settings: Any
) -> optim.Optimizer:
    """Build an optimizer of class ``kind`` for a single process: the default ``make``."""
    return kind(parameters, **settings)


@dataclass(frozen=True)
class OptimizerSpec:
    """Which optimizer moves a player's parameters, and its settings.

    kind: sgd, adam, rmsprop, adamw, muon, or one that was brought. adaptive_lr is the rate of
    schedules such as adam and rmsprop, which bring their own optimizer. scale: what both rates have
    been multiplied by already, as those of parameter groups have not.
    """

    kind: str
    lr: float
    adaptive_lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    scale: float = 1.0

    def scaled(self, rate: float) -> OptimizerSpec:
        """Return the same optimizer with ``rate`` times its learning rates."""
        lr, adaptive_lr = rate * self.lr, rate * self.adaptive_lr
        return replace(self, lr=lr, adaptive_lr=adaptive_lr, scale=rate * self.scale)

    def build(
        self,
        kind: str,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]] | Named,
        make: Make = make_optimizer,
    ) -> optim.Optimizer:
        """Build torch's optimizer ``kind``, at ``lr`` if that is its own, else at ``adaptive_lr``.

        parameters: with or without their names, or torch's groups of them; a group with an ``lr``
        keeps its ratio to the others'. make: puts class, parameters and settings together, as
        ``parallel.Layout.optimizer`` does. Raises UsageError if the kind is unknown, and if one's
        own needs a closure or leaves out a named parameter that is not frozen.
        """
        rate = self.lr if kind == self.kind else self.adaptive_lr
        settings: dict[str, Any] = {"lr": rate, "weight_decay": self.weight_decay}
        given = [*parameters]
        named = [part for part in given if isinstance(part, tuple)]
        own = OPTIMIZERS.own.get(kind)
        if own and not isinstance(next(iter(given), None), dict):
            given = own.groups([p if isinstance(p, tuple) else ("", p) for p in given])

        def alone(part: Any) -> Any:
            """Return a parameter without its name, or a group at this rate."""
            if isinstance(part, dict) and "lr" in part:
                return part | {"lr": part["lr"] * (self.scale * (rate / self.lr))}
            return part[1] if isinstance(part, tuple) else part

        given = [alone(part) for part in given]
        fused = fusable(given)
        if own:
            built = make(partial(_built, own), given, **settings)
            _refuse_left_out(kind, named, built)
            return built
        if kind == "sgd":
            return make(optim.SGD, given, momentum=self.momentum, **settings)
        if kind == "adam":
            return make(optim.Adam, given, betas=self.betas, fused=fused, **settings)
        if kind == "rmsprop":
            return make(optim.RMSprop, given, **settings)
        if kind == "adamw":
            return make(optim.AdamW, given, betas=self.betas, fused=fused, **settings)
        if kind == "muon":
            return make(Muon, given, betas=self.betas, **settings)
        raise unknown("optimizer", kind, OPTIMIZERS.every)


def _built(own: Optimizer, groups: Iterable[dict[str, Any]], **settings: Any) -> optim.Optimizer:
    """Build one's own optimizer. Raises UsageError if it is none, or its step needs a closure."""
    built: object = own.build(groups, **settings)
    if not isinstance(built, optim.Optimizer):
        raise UsageError(
            f"optimizer {own.name}: build returned a {type(built).__name__}, "
            "a torch.optim.Optimizer is needed"
        )
    try:
        inspect.signature(built.step).bind()
    except TypeError as error:
        raise UsageError(
            f"optimizer {own.name}: {type(built).__name__}.step is called without arguments "
            f"({error}): optimizers that need a closure (LBFGS, SAM) are not supported"
        ) from None
    return built


def _refuse_left_out(kind: str, named: Named, optimizer: optim.Optimizer) -> None:
    """Raise UsageError for a named parameter that takes gradients, and is in no group."""
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    left = [name for name, own in named if own.requires_grad and id(own) not in moved]
    if left:
        raise UsageError(
            f"optimizer {kind} leaves out {some_of(left, 3)}: its groups must hold "
            "every parameter that is not frozen by requires_grad_(False)"
        )
