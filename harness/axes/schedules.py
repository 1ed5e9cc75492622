"""Learning-rate schedules (note 92): PyTorch's own classes, one small factory each.

adam and rmsprop are the note's adaptive rates: a constant schedule over another optimizer. So are
adamw, muon and the optimizers that a project brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from torch import Tensor, nn, optim
from torch.optim import lr_scheduler as lrs

from harness.axes import optimizers
from harness.axes.axis import Axis, Value
from harness.axes.optimizers import OPTIMIZERS, Make, OptimizerSpec, make_optimizer
from harness.cell import UsageError, unknown

FINAL = 0.01  # where exponential ends, as a share of the base rate


class Schedule(Value):
    """A learning-rate schedule of one's own: override ``build``."""

    needs = ("build",)

    def build(self, optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
        """Return torch's scheduler of an optimizer's rates over so many steps.

        It is stepped once after each of them; a ``ReduceLROnPlateau`` gets the training loss.
        """
        raise NotImplementedError


def _constant(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    return lrs.ConstantLR(optimizer, factor=1.0, total_iters=0)


def _piecewise(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    """Drop the rate to a tenth half way, and to a hundredth at three quarters."""
    return lrs.MultiStepLR(optimizer, [max(1, steps // 2), max(1, steps * 3 // 4)], gamma=0.1)


def _exponential(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    return lrs.ExponentialLR(optimizer, gamma=FINAL ** (1 / steps))


def _cosine(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    """Let the rate fall along half a cosine (Loshchilov & Hutter 2017), without restarts."""
    return lrs.CosineAnnealingLR(optimizer, T_max=steps)


class Plateau(lrs.ReduceLROnPlateau):
    """PyTorch's ReduceLROnPlateau on means of ``window`` losses: one batch's is mostly noise.

    A loss below zero must fall further to be a new least, as one above zero must; PyTorch would
    take one that rises by a ten-thousandth for it.

    Losses that are tensors are added up where they are, and read once a window: a GPU is not
    waited for between.
    """

    total: float | Tensor

    def __init__(self, optimizer: optim.Optimizer, window: int, **settings: Any) -> None:
        self.window, self.seen, self.total = window, 0, 0.0
        super().__init__(optimizer, **settings)

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take in one step's loss; look at their mean, and perhaps cut the rate, once a window."""
        self.seen += 1
        self.total += metrics.double() if isinstance(metrics, Tensor) else float(metrics)
        if self.seen == self.window:
            super().step(float(self.total) / self.window)
            self.seen, self.total = 0, 0.0

    def _is_better(self, a: float, best: float) -> bool:
        return super()._is_better(a, best) if best >= 0 else a < best * (1 + self.threshold)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as torch's does, the sum so far as a number."""
        return super().state_dict() | {"total": float(self.total)}


def _plateau(optimizer: optim.Optimizer, steps: int) -> Plateau:
    """Cut the rate to a third whenever a tenth of the steps brought no new least loss.

    A loss is the mean of a fiftieth of the steps.
    """
    return Plateau(optimizer, window=max(1, steps // 50), factor=1 / 3, patience=5)


def _warmup_cosine(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    """Raise the rate linearly over the first tenth (Goyal et al. 2017), then fall as cosine."""
    warm = max(1, steps // 10)
    rise = lrs.LinearLR(optimizer, start_factor=1 / (warm + 1), total_iters=warm)
    fall = lrs.CosineAnnealingLR(optimizer, T_max=max(1, steps - warm))
    return lrs.SequentialLR(optimizer, [rise, fall], milestones=[warm])


def _one_cycle(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    """Raise the rate and let it fall once (Smith & Topin 2018); momentum stays as it is."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    # OneCycleLR divides by zero when a phase is empty and raises one step past its end
    return lrs.OneCycleLR(optimizer, peaks, total_steps=max(steps, 9) + 1, cycle_momentum=False)


def _linear_decay(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    """Let the rate fall along a straight line to zero (Defazio et al. 2023)."""
    return lrs.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)


def _wsd(optimizer: optim.Optimizer, steps: int) -> lrs.LRScheduler:
    """Raise the rate over a twentieth, keep it, and let it fall to zero over the last fifth.

    Warmup, stable, decay (Hu et al. 2024); the decay is linear (Haegele et al. 2024).
    """
    warm, fall = max(1, steps // 20), max(1, steps // 5)
    level = max(1, steps - warm - fall)
    parts = [
        lrs.LinearLR(optimizer, start_factor=1 / (warm + 1), total_iters=warm),
        lrs.ConstantLR(optimizer, factor=1.0, total_iters=0),
        lrs.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=fall),
    ]
    return lrs.SequentialLR(optimizer, parts, milestones=[warm, warm + level])


_BUILD: dict[str, Callable[[optim.Optimizer, int], lrs.LRScheduler]] = {
    "constant": _constant,
    "piecewise": _piecewise,
    "exponential": _exponential,
    "cosine": _cosine,
    "adam": _constant,
    "rmsprop": _constant,
    "plateau": _plateau,
    "warmup_cosine": _warmup_cosine,
    "one_cycle": _one_cycle,
    "linear_decay": _linear_decay,
    "wsd": _wsd,
    "adamw": _constant,
    "muon": _constant,
}
CHOSEN = ("linear_decay", "wsd", "adamw", "muon")  # only by name
NAMES = tuple(name for name in _BUILD if name not in CHOSEN)
ADAPTIVE = ("adam", "rmsprop", "adamw", "muon")


class _Schedules(Axis[Schedule]):
    """The schedules, and the optimizers that are chosen as one."""

    @property
    def names(self) -> tuple[str, ...]:
        brought = (name for name, value in OPTIMIZERS.own.items() if value.default)
        return (*super().names, *brought)

    @property
    def every(self) -> tuple[str, ...]:
        return (*super().every, *OPTIMIZERS.own)


SCHEDULES = _Schedules("schedule", Schedule, NAMES, CHOSEN)


def optimizer_of(name: str, base: OptimizerSpec) -> str:
    """Return the kind of optimizer that a schedule drives: its own if it brings one, else base's.

    Raises UsageError if the schedule is unknown.
    """
    if name not in SCHEDULES.every:
        raise unknown("schedule", name, SCHEDULES.every)
    return name if name in ADAPTIVE or name in OPTIMIZERS.own else base.kind


def build(
    name: str,
    base: OptimizerSpec,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]] | optimizers.Named,
    steps: int,
    make: Make = make_optimizer,
) -> tuple[optim.Optimizer, lrs.LRScheduler]:
    """Build an optimizer and its learning-rate schedule over ``steps`` steps.

    base: the optimizer, unless the schedule brings one. parameters and make: as in
    ``OptimizerSpec.build``. Raises UsageError if the schedule is unknown, or one that was brought
    builds none.
    """
    optimizer = base.build(optimizer_of(name, base), parameters, make)
    own = SCHEDULES.own.get(name)
    schedule = own.build(optimizer, steps) if own else _BUILD.get(name, _constant)(optimizer, steps)
    if not isinstance(schedule, lrs.LRScheduler):
        raise UsageError(
            f"schedule {name}: build returned a {type(schedule).__name__}, "
            "a torch.optim.lr_scheduler.LRScheduler is needed"
        )
    return optimizer, schedule


def skip_reason(
    name: str, base: OptimizerSpec, loss_falls: bool = True, parallel: str = "single"
) -> str | None:
    """Return why a schedule is not worth a training over a base optimizer; None if it is.

    loss_falls: whether the training loss falls as the model gets better. parallel: the
    configuration that it would train under.
    """
    if name == "plateau" and not loss_falls:
        return "plateau waits for the training loss to fall, which here is no measure of progress"
    if name == base.kind and name in SCHEDULES.every:
        return f"{name} equals constant here: the topic's base optimizer is {name} already"
    return optimizers.skip_reason(optimizer_of(name, base), parallel)


def looks_at_loss(schedule: lrs.LRScheduler) -> TypeGuard[lrs.ReduceLROnPlateau]:
    """Whether the schedule needs the training loss at each step, as plateau alone does."""
    return isinstance(schedule, lrs.ReduceLROnPlateau)


def step(schedule: lrs.LRScheduler, loss: float | Tensor) -> None:
    """Advance the schedule, once after every optimizer step; only plateau uses ``loss``."""
    if isinstance(schedule, Plateau):
        schedule.step(loss)
    elif looks_at_loss(schedule):
        schedule.step(float(loss))
    else:
        schedule.step()
