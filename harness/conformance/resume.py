"""Does a training that is saved go on in a fresh process as if it had never stopped?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import checkpoint
from harness.cell import some_of
from harness.conformance.determinism import told
from harness.conformance.finding import Finding, fails, holds
from harness.conformance.outside import changed, hidden
from harness.conformance.state import HALF
from harness.conformance.subject import STEPS, Subject
from harness.conformance.trace import Event, first_difference, trace
from harness.trial.device import device_of
from harness.trial.task import Task, training_of

TODO = {  # by the kind of the first difference
    "state": "let load_state_dict take in all that state_dict gives",
    "batch": "let the batches' state_dict hold it, or draw from the generator that they are given",
    "output": "register_buffer what layers keep; draw from torch's, Python's or NumPy's global "
    "generator, which are saved",
    "loss": "let objectives keep nothing from step to step; draw from torch's, Python's or NumPy's "
    "global generator, which are saved",
    "gradient": "let objectives keep nothing from step to step",
    "parameters": "keep what an optimizer remembers in its self.state[parameter], which is saved; "
    "let each_step depend on networks and step alone",
    "rate": "let the schedule's state_dict hold all that it follows",
    "random": "draw as many numbers as before",
}


@dataclass(frozen=True)
class _Train:
    """Trains half, saves, and trains on: what is not in the checkpoint, and all events since."""

    path: Path

    def __call__(self, task: Task, rank: int) -> tuple[dict[str, str], list[Event]]:
        training = training_of(task, device_of(task, rank), rank)
        training.run(HALF)
        checkpoint.save(self.path, training.state_dict())
        kept = hidden(training)
        return kept, trace(training, STEPS)


@dataclass(frozen=True)
class _Resume:
    """Loads the checkpoint, and trains on: the same."""

    path: Path

    def __call__(self, task: Task, rank: int) -> tuple[dict[str, str], list[Event]]:
        training = training_of(task, device_of(task, rank), rank)
        training.load_state_dict(checkpoint.load(self.path))
        kept = hidden(training)
        return kept, trace(training, STEPS)


def resume(subject: Subject) -> Finding:
    """Hold the steps after a checkpoint against those of a fresh process that loads it."""
    path = subject.task.run / "resume.pt"
    kept, one = subject.call(_Train(path))
    back, other = subject.call_afresh(_Resume(path))
    lost = changed(kept, back)
    parting = first_difference(one, other)
    if parting is None:
        note = f"; not restored, and without effect here: {some_of(lost)}" if lost else ""
        return holds(f"steps {HALF + 1} to {STEPS} come again in a fresh process{note}")
    what = told(parting).replace("before the first step", "after loading")
    why = f": {some_of(lost)} {'is' if len(lost) == 1 else 'are'} not restored" if lost else ""
    return fails(f"after step {HALF}, saved and loaded, {what}{why}", TODO[parting.kind])
