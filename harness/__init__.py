"""Decathlon: eight topics from ten notes of PyTorch practice, as one experiment matrix.

These names are what topics, experiments and scripts may rely on; everything else may change. They
are imported on first use, since PyTorch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.compare import compare
    from harness.api.results import Results, load
    from harness.api.run import run
    from harness.axes.losses import AdversarialLoss, Form, Loss, PixelForm, categorical, numeric
    from harness.axes.losses.adversarial import adversarial_loss
    from harness.axes.losses.pixels import pixel_form
    from harness.axes.optimizers import Optimizer, OptimizerSpec
    from harness.axes.parallel import Parallel
    from harness.axes.schedules import Schedule
    from harness.cell import Budget, Cell, Status, UsageError
    from harness.results.record import Record
    from harness.results.report import write_report
    from harness.results.store import Store
    from harness.runs import Run
    from harness.topics.supervised.supervised import Supervised
    from harness.training.batches import Batches, Shuffled, WithNoise
    from harness.training.topic import Batch, Networks, Player, Topic

_HOMES = {
    "api.compare": ("compare",),
    "api.results": ("Results", "load"),
    "api.run": ("run",),
    "axes.losses": ("AdversarialLoss", "Form", "Loss", "PixelForm", "categorical", "numeric"),
    "axes.losses.adversarial": ("adversarial_loss",),
    "axes.losses.pixels": ("pixel_form",),
    "axes.optimizers": ("Optimizer", "OptimizerSpec"),
    "axes.parallel": ("Parallel",),
    "axes.schedules": ("Schedule",),
    "cell": ("Budget", "Cell", "Status", "UsageError"),
    "results.record": ("Record",),
    "results.report": ("write_report",),
    "results.store": ("Store",),
    "runs": ("Run",),
    "topics.supervised.supervised": ("Supervised",),
    "training.batches": ("Batches", "Shuffled", "WithNoise"),
    "training.topic": ("Batch", "Networks", "Player", "Topic"),
}

__all__ = [
    "AdversarialLoss",
    "Batch",
    "Batches",
    "Budget",
    "Cell",
    "Form",
    "Loss",
    "Networks",
    "Optimizer",
    "OptimizerSpec",
    "Parallel",
    "PixelForm",
    "Player",
    "Record",
    "Results",
    "Run",
    "Schedule",
    "Shuffled",
    "Status",
    "Store",
    "Supervised",
    "Topic",
    "UsageError",
    "WithNoise",
    "adversarial_loss",
    "categorical",
    "compare",
    "load",
    "numeric",
    "pixel_form",
    "run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"harness.{module}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
