"""Audit a cell's checkpoints: do they bring its training back in a process that never saw it?"""

from __future__ import annotations

from harness import checkpoint
from harness.axes import parallel
from harness.checkpoint import estimators
from harness.trial import cost
from harness.trial.device import device_of
from harness.trial.outcome import Audited, Saved
from harness.trial.task import Task, measured, network_digest, training_of


def audit(task: Task, rank: int, saved: Saved) -> Audited:
    """Load a cell's checkpoints into fresh objects, and compare those with what training saved.

    All ranks of a task call it together, each in a fresh process; rank 0's answer counts.
    """
    if task.fitted:
        return _audit_estimator(task, saved)
    device = device_of(task, rank)
    training, clock = training_of(task, device, rank), cost.Clock(device)
    with clock.measure("load_s"):
        training.load_state_dict(checkpoint.load(task.folder / "middle.pt"))
    loaded = checkpoint.digest(parallel.full_tensors(training.state_dict()))
    training.run(task.middle + task.replayed_steps)
    replayed = network_digest(training)
    training.load_state_dict(checkpoint.load(task.folder / "final.pt"))
    metrics, _ = measured(task, training.evaluate())
    return saved.hold_to(loaded, replayed, metrics, clock.seconds["load_s"])


def _audit_estimator(task: Task, saved: Saved) -> Audited:
    """Audit the final checkpoint of a fitted estimator, which has no steps to repeat."""
    clock = cost.Clock()
    with clock.measure("load_s"):
        tree = checkpoint.load(task.folder / "final.pt")
        estimator = estimators.loads(tree["estimator"])
    metrics, _ = measured(task, task.topic.evaluate({"model": estimator}, task.cell))
    return saved.hold_to(estimators.digest(estimator), None, metrics, clock.seconds["load_s"])
