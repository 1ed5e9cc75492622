"""Does the same training give the same numbers, bit for bit, in another process?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.conformance.finding import Finding, fails, holds
from harness.conformance.subject import STEPS, Source, Subject
from harness.conformance.trace import Event, Parting, first_difference, trace
from harness.studies.study import own_executor
from harness.training import returned
from harness.trial.device import device_of
from harness.trial.task import Task, training_of

STATE = {  # what to do where the state before the first step differs, by its part
    "networks": "draw initial values from torch's global generator, which is seeded for each cell",
    "batches": "take what is random from the generator that batches() is given",
}
CAUSES = {  # what to do, by the kind of the first difference
    "batch": "take what is random from the generator that batches() is given: a random.Random() or "
    "default_rng() without a seed, the order of a set and that of os.listdir are others each time",
    "output": "draw in forward from torch's global generator only, which the loop seeds",
    "loss": "what is random in an objective comes with the batch, or from torch's global generator",
    "gradient": "an operator of the backward pass adds up in any order, or draws",
    "parameters": "something but the loss moves them: look at each_step and at the optimizer",
    "rate": "the schedule follows something that is no step and no loss, such as the time",
    "random": "something draws a varying count of numbers from this generator",
}


@dataclass(frozen=True)
class _Trace:
    """Trains a cell for its first steps. source: the topic is loaded anew from there, if any."""

    source: Source | None

    def __call__(self, task: Task, rank: int) -> list[Event]:
        if self.source is not None:
            task = replace(task, topic=self.source.load() or task.topic)
        return trace(training_of(task, device_of(task, rank), rank), STEPS)


def _prepare(task: Task, rank: int) -> None:
    task.topic.prepare()
    returned.dataset_id(task.topic)


def deterministic(subject: Subject) -> Finding:
    """Train the same steps in two interpreters, and find where their numbers part.

    What a run refuses before it trains is refused before.
    """
    subject.call(_prepare)
    function = _Trace(subject.source)
    one = subject.call_afresh(function)
    with own_executor(fresh=True) as interpreter:  # which hashes text in another order
        other = interpreter.call(function, subject.task)
    parting = first_difference(one, other)
    if parting is None:
        return holds(f"{STEPS} steps in two processes are equal, bit for bit")
    return fails(told(parting), _todo(parting))


def told(parting: Parting) -> str:
    """Return in words where two trainings part."""
    step, who, name = parting.step, parting.who, parting.name
    if parting.kind == "state":
        return f"{name} differs before the first step"
    what = {
        "batch": f"{name or 'a tensor'} of the batch differs, with all before it equal",
        "output": f"the output of {who} differs, with equal parameters and batch",
        "loss": f"the loss of {who} differs, with equal outputs of all layers",
        "gradient": f"the gradient of {name or who} differs, with an equal loss",
        "parameters": f"{who}.{name} differs after an equal gradient",
        "rate": f"the learning rate of {name} differs",
        "random": f"the {name} generator differs",
    }
    return f"at step {step} {what[parting.kind]}"


def _todo(parting: Parting) -> str:
    if parting.kind == "state":
        part = parting.name.split(".")[0]
        return STATE.get(part, "make it the same in each process")
    return CAUSES[parting.kind]
