"""All checks, in the order in which they run, and how one is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from harness.axes import parallel
from harness.cell import REFUSED, UsageError
from harness.conformance import ranks
from harness.conformance.determinism import deterministic
from harness.conformance.devices import devices
from harness.conformance.evaluation import evaluation
from harness.conformance.finding import Finding, crashed, does_not_apply, holds, raised, refused
from harness.conformance.learning import gradients, loss_falls
from harness.conformance.resume import resume
from harness.conformance.shards import shards
from harness.conformance.state import state
from harness.conformance.subject import Subject
from harness.execution.process import Function
from harness.trial.device import visible

DECLARED = "declared"
DECLARED_RIGHT = holds("names, models, metrics, budgets and methods are what is needed")


@dataclass(frozen=True)
class Check:
    """A promise that a training makes. run: looks whether it is kept."""

    name: str
    run: Callable[[Subject], Finding]


def _in_a_worker(function: Function) -> Callable[[Subject], Finding]:
    """Return the check that a function of a task makes in one worker process."""

    def run(subject: Subject) -> Finding:
        finding: Finding = subject.call(function)
        return finding

    return run


def checks() -> list[Check]:
    """Return all checks but the declaration's, which comes before there is a subject."""
    return [
        Check("deterministic", deterministic),
        Check("loss-falls", _in_a_worker(loss_falls)),
        Check("gradients", _in_a_worker(gradients)),
        Check("shards", _in_a_worker(shards)),
        Check("state", _in_a_worker(state)),
        Check("resume", resume),
        *(
            Check(f"parity-{name}", ranks.parity_of(name))
            for name in parallel.CONFIGURATIONS.names
            if parallel.is_distributed(name)
        ),
        Check("resharding", ranks.resharding),
        Check("devices", devices),
        Check("evaluation", _in_a_worker(evaluation)),
    ]


def run(check: Check, subject: Subject) -> Finding:
    """Run a check; what the topic's code raises on the way, or is refused for, is its finding."""
    task = subject.task
    if task.fitted:
        return does_not_apply(f"scikit-learn's fit trains {task.cell.model}, without steps")
    try:
        with visible(""):  # PowerSGD, as an instance, uses a GPU that it sees
            return check.run(subject)
    except RuntimeError as error:  # of a worker, with its traceback below
        reason, _, trace = str(error).partition("\n")
        finding = crashed(trace, task.topic) if trace.strip() else raised(error, task.topic)
        if "Traceback" not in trace:
            finding = replace(finding, text=reason)
        if begins := REFUSED.match(reason):
            finding = refused(reason[begins.end() :])
    except UsageError as error:
        finding = refused(str(error))
    except Exception as error:  # what cannot be sent to a process
        finding = raised(error, task.topic)
    return replace(finding, ends=check.run is deterministic)


def run_all(subject: Subject) -> Iterator[tuple[Check, Finding]]:
    """Run all checks in turn; once there is no training to check, the rest do not apply."""
    ended = ""
    for check in checks():
        finding = does_not_apply(f"see {ended}") if ended else run(check, subject)
        if finding.ends:
            ended = check.name
        yield check, finding
