"""PyTorch's SGD, Adam and RMSprop for a population, with a learning rate for each member.

``torch.optim`` takes one rate for a tensor. Here the same rules, as its documentation gives them,
move a matrix whose rows are members. Shapes: N members, P parameters of one member in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, optim

Moments = Mapping[str, Tensor]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """The update rule of one kind of optimizer, for a matrix whose rows are members.

    moments: what torch's optimizer keeps for a parameter, by its name there. counts: whether it
    keeps the number of steps too. apply: (value_NP, gradient_NP, moments, rate_N1, root, options)
    moves value and moments in place. corrections: (step, options) -> what the rate and the root
    of the second moment are divided by at that step, which counts from 1.
    """

    moments: tuple[str, ...]
    counts: bool
    apply: Callable[[Tensor, Tensor, Moments, Tensor, Tensor, Options], None]
    corrections: Callable[[int, Options], tuple[float, float]] = lambda step, options: (1.0, 1.0)


def sgd(
    value_NP: Tensor,
    gradient_NP: Tensor,
    moments: Moments,
    rate_N1: Tensor,
    root: Tensor,
    options: Options,
) -> None:
    """Make a step of SGD in place, its momentum neither dampened nor Nesterov's."""
    moved_NP = _decayed(value_NP, gradient_NP, options)
    if "momentum_buffer" in moments:
        moved_NP = moments["momentum_buffer"].mul_(options["momentum"]).add_(moved_NP)
    value_NP.addcmul_(rate_N1, moved_NP, value=-1)


def adam(
    value_NP: Tensor,
    gradient_NP: Tensor,
    moments: Moments,
    rate_N1: Tensor,
    root: Tensor,
    options: Options,
) -> None:
    """Make a step of Adam (Kingma & Ba 2015) in place.

    rate_N1 is divided by its bias correction already; root is that of the second moment's root.
    """
    beta1, beta2 = options["betas"]
    gradient_NP = _decayed(value_NP, gradient_NP, options)
    mean_NP = moments["exp_avg"].lerp_(gradient_NP, 1 - beta1)
    square_NP = moments["exp_avg_sq"].mul_(beta2)
    square_NP.addcmul_(gradient_NP, gradient_NP, value=1 - beta2)
    value_NP.addcdiv_(rate_N1 * mean_NP, (square_NP.sqrt() / root).add_(options["eps"]), value=-1)


def rmsprop(
    value_NP: Tensor,
    gradient_NP: Tensor,
    moments: Moments,
    rate_N1: Tensor,
    root: Tensor,
    options: Options,
) -> None:
    """Make a step of RMSprop (Tieleman & Hinton 2012), neither centred nor with momentum."""
    gradient_NP = _decayed(value_NP, gradient_NP, options)
    square_NP = moments["square_avg"].mul_(options["alpha"])
    square_NP.addcmul_(gradient_NP, gradient_NP, value=1 - options["alpha"])
    value_NP.addcdiv_(rate_N1 * gradient_NP, square_NP.sqrt().add_(options["eps"]), value=-1)


def _decayed(value_NP: Tensor, gradient_NP: Tensor, options: Options) -> Tensor:
    """Return the gradient with weight decay (L2) added."""
    decay = options["weight_decay"]
    return gradient_NP.add(value_NP, alpha=decay) if decay else gradient_NP


def _adam_corrections(step: int, options: Options) -> tuple[float, float]:
    """Return Adam's bias corrections: of the rate, and of the second moment's root."""
    beta1, beta2 = options["betas"]
    return 1 - beta1**step, (1 - beta2**step) ** 0.5


# options that a rule repeats only at these values
_PLAIN = {"maximize": False, "amsgrad": False, "nesterov": False, "dampening": 0, "centered": False}


def rule(optimizer: optim.Optimizer) -> Rule | None:
    """Return the rule that equals a torch optimizer with its options; None if there is none."""
    options, groups = optimizer.defaults, optimizer.param_groups
    if len(groups) > 1 or any(options.get(n, plain) != plain for n, plain in _PLAIN.items()):
        return None
    if type(optimizer) is optim.SGD:
        return Rule(("momentum_buffer",) if options["momentum"] else (), False, sgd)
    if type(optimizer) is optim.Adam and not options["decoupled_weight_decay"]:
        return Rule(("exp_avg", "exp_avg_sq"), True, adam, _adam_corrections)
    if type(optimizer) is optim.RMSprop and not options["momentum"]:
        return Rule(("square_avg",), True, rmsprop)
    return None


def options_of(optimizer: optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's settings but its rate, which members must share to share a rule."""
    return {name: value for name, value in optimizer.defaults.items() if name != "lr"}
