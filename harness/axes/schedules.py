"""Learning-rate schedules (note 92): PyTorch's own classes, one small factory each.

adam and rmsprop are the note's adaptive rates: a constant schedule over another optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from torch import Tensor, nn, optim
from torch.optim import lr_scheduler as lrs

from harness.axes.optimizers import Make, OptimizerSpec, make_optimizer
from harness.cell import unknown

Schedule = lrs.LRScheduler
FINAL = 0.01  # where exponential ends, as a share of the base rate


def _constant(optimizer: optim.Optimizer, steps: int) -> Schedule:
    return lrs.ConstantLR(optimizer, factor=1.0, total_iters=0)


def _piecewise(optimizer: optim.Optimizer, steps: int) -> Schedule:
    """Drop the rate to a tenth half way, and to a hundredth at three quarters."""
    return lrs.MultiStepLR(optimizer, [max(1, steps // 2), max(1, steps * 3 // 4)], gamma=0.1)


def _exponential(optimizer: optim.Optimizer, steps: int) -> Schedule:
    return lrs.ExponentialLR(optimizer, gamma=FINAL ** (1 / steps))


def _cosine(optimizer: optim.Optimizer, steps: int) -> Schedule:
    """Let the rate fall along half a cosine (Loshchilov & Hutter 2017), without restarts."""
    return lrs.CosineAnnealingLR(optimizer, T_max=steps)


class Plateau(lrs.ReduceLROnPlateau):
    """PyTorch's ReduceLROnPlateau on means of ``window`` losses: one batch's is mostly noise."""

    def __init__(self, optimizer: optim.Optimizer, window: int, **settings: Any) -> None:
        self.window, self.seen, self.total = window, 0, 0.0
        super().__init__(optimizer, **settings)

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take in one step's loss; look at their mean, and perhaps cut the rate, once a window."""
        self.seen += 1
        self.total += float(metrics)
        if self.seen == self.window:
            super().step(self.total / self.window)
            self.seen, self.total = 0, 0.0


def _plateau(optimizer: optim.Optimizer, steps: int) -> Plateau:
    """Cut the rate to a third whenever a tenth of the steps brought no new least loss.

    A loss is the mean of a fiftieth of the steps.
    """
    return Plateau(optimizer, window=max(1, steps // 50), factor=1 / 3, patience=5)


def _warmup_cosine(optimizer: optim.Optimizer, steps: int) -> Schedule:
    """Raise the rate linearly over the first tenth (Goyal et al. 2017), then fall as cosine."""
    warm = max(1, steps // 10)
    rise = lrs.LinearLR(optimizer, start_factor=1 / (warm + 1), total_iters=warm)
    fall = lrs.CosineAnnealingLR(optimizer, T_max=max(1, steps - warm))
    return lrs.SequentialLR(optimizer, [rise, fall], milestones=[warm])


def _one_cycle(optimizer: optim.Optimizer, steps: int) -> Schedule:
    """Raise the rate and let it fall once (Smith & Topin 2018); momentum stays as it is."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    # OneCycleLR divides by zero when a phase is empty and raises one step past its end
    return lrs.OneCycleLR(optimizer, peaks, total_steps=max(steps, 9) + 1, cycle_momentum=False)


_BUILD: dict[str, Callable[[optim.Optimizer, int], Schedule]] = {
    "constant": _constant,
    "piecewise": _piecewise,
    "exponential": _exponential,
    "cosine": _cosine,
    "adam": _constant,
    "rmsprop": _constant,
    "plateau": _plateau,
    "warmup_cosine": _warmup_cosine,
    "one_cycle": _one_cycle,
}
NAMES = tuple(_BUILD)
ADAPTIVE = ("adam", "rmsprop")


def build(
    name: str,
    base: OptimizerSpec,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    steps: int,
    make: Make = make_optimizer,
) -> tuple[optim.Optimizer, Schedule]:
    """Build an optimizer and its learning-rate schedule over ``steps`` steps.

    base: the optimizer, unless the schedule is adam or rmsprop. parameters: or torch's parameter
    groups; one with an ``lr`` of its own keeps its ratio to the others. make: as in
    ``OptimizerSpec.build``. Raises UsageError if the schedule is unknown.
    """
    if name not in _BUILD:
        raise unknown("schedule", name, NAMES)
    optimizer = base.build(name if name in ADAPTIVE else base.kind, parameters, make)
    return optimizer, _BUILD[name](optimizer, steps)


def skip_reason(name: str, base: OptimizerSpec, loss_falls: bool = True) -> str | None:
    """Return why a schedule is not worth a training over a base optimizer; None if it is.

    loss_falls: whether the training loss falls as the model gets better.
    """
    if name == "plateau" and not loss_falls:
        return "plateau waits for the training loss to fall, which here is no measure of progress"
    if name in ADAPTIVE and name == base.kind:
        return f"{name} equals constant here: the topic's base optimizer is {name} already"
    return None


def looks_at_loss(schedule: Schedule) -> TypeGuard[lrs.ReduceLROnPlateau]:
    """Whether the schedule needs the training loss at each step, as plateau alone does."""
    return isinstance(schedule, lrs.ReduceLROnPlateau)


def step(schedule: Schedule, loss: float | Tensor) -> None:
    """Advance the schedule, once after every optimizer step; only plateau uses ``loss``."""
    if looks_at_loss(schedule):
        schedule.step(float(loss))
    else:
        schedule.step()
