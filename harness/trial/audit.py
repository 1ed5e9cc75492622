"""Audit a cell's checkpoints: do they bring its training back in a process that never saw it?"""

from __future__ import annotations

import time

from harness import checkpoint
from harness.axes import parallel
from harness.checkpoint import estimators
from harness.trial.device import device_of
from harness.trial.outcome import Audited, Saved
from harness.trial.task import Task, measured, network_digest, training_of


def audit(task: Task, rank: int, saved: Saved) -> Audited:
    """Load a cell's checkpoints into fresh objects, and compare those with what training saved.

    All ranks of a task call it together, each in a fresh process; rank 0's answer counts.
    """
    if task.fitted:
        return _audit_estimator(task, saved)
    training = training_of(task, device_of(task, rank), rank)
    begun = time.perf_counter()
    training.load_state_dict(checkpoint.load(task.folder / "middle.pt"))
    load_s = time.perf_counter() - begun
    loaded = checkpoint.digest(parallel.full_tensors(training.state_dict()))
    training.run(task.middle + task.replayed_steps)
    replayed = network_digest(training)
    training.load_state_dict(checkpoint.load(task.folder / "final.pt"))
    metrics, _ = measured(task, training.evaluate())
    return saved.hold_to(loaded, replayed, metrics, load_s)


def _audit_estimator(task: Task, saved: Saved) -> Audited:
    """Audit the final checkpoint of a fitted estimator, which has no steps to repeat."""
    begun = time.perf_counter()
    tree = checkpoint.load(task.folder / "final.pt")
    estimator = estimators.loads(tree["estimator"])
    load_s = time.perf_counter() - begun
    metrics, _ = measured(task, task.topic.evaluate({"model": estimator}, task.cell))
    return saved.hold_to(estimators.digest(estimator), None, metrics, load_s)
