"""Decide when a trial is given up: once nothing of it advances, or past a limit someone set."""

from __future__ import annotations

from collections.abc import Sequence

from harness.training.heartbeat import Pulse
from harness.trial.task import Task

SLOWER = 5.0  # times a trial's longest step: no progress for that long is no slow step


def given_up(task: Task, pulses: Sequence[Pulse], running_s: float) -> str:
    """Return why a trial is to be given up now; empty if it may go on.

    pulses: of its ranks, of which one that advances is enough: the others may wait for it.
    running_s: its wall time so far in seconds.
    """
    step = max(pulse.step for pulse in pulses)
    where = f" at step {step} of {task.budget.steps}" if step else ""
    if task.limit_s is not None and running_s > task.limit_s:
        if len(task.cells) > 1:
            return f"over {task.limit_s:g} s, --timeout for {len(task.cells)} cells as one{where}"
        return f"over --timeout {task.limit_s:g} s{where}"
    patience_s = max(task.budget.timeout_s, SLOWER * max(pulse.step_s for pulse in pulses))
    if min(pulse.silent_s for pulse in pulses) > patience_s:
        return f"no progress for {patience_s:.4g} s{where}"
    return ""
