"""Do several processes train what one does, and can another number of them go on?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from harness import matrix
from harness.axes import parallel
from harness.conformance.finding import Finding, does_not_apply, fails, holds
from harness.conformance.shards import shards
from harness.conformance.subject import RANKS, Subject
from harness.studies.resharding import grid
from harness.trial import parity

UNFINISHED = "Expected to have finished reduction"  # of DDP
KEEPS = "let layers, objectives and batches keep what they saw of their own share in buffers alone"
WRAPS = "let its wrap average gradients over the ranks, or say in inexact why they differ"
SHARDED = ("fsdp", "zero1", "ddp")  # the first that applies is resharded


def parity_of(configuration: str) -> Callable[[Subject], Finding]:
    """Return the check that a parallel configuration trains what a single process does."""
    return partial(_parity, configuration=configuration)


def _parity(subject: Subject, configuration: str) -> Finding:
    """Compare the first steps of RANKS processes with those of one, on the same batches."""
    if reason := _skipped(subject, configuration):
        return does_not_apply(reason)
    try:
        got = subject.call(parity.first_steps, RANKS, configuration)
    except RuntimeError as error:
        if UNFINISHED not in str(error):
            raise
        return fails(
            "ranks wait for gradients that do not come: parameters are not used in the loss",
            "see gradients above, which names them",
        )
    cell = replace(subject.task.cell, parallel=configuration)
    found = parity.compare(subject.alone, got, replace(subject.task, cell=cell, world_size=RANKS))
    if found.equal is None:
        return does_not_apply(f"inexact by design: {found.reason}")
    if not found.equal:
        if subject.call(shards).status == "fails":
            return fails(found.reason, "see shards above, which says where")
        own = configuration in parallel.CONFIGURATIONS.own
        return fails(found.reason, WRAPS if own else KEEPS)
    return holds(f"its first {found.steps} steps are a single process's ({found.difference:.0e})")


def resharding(subject: Subject) -> Finding:
    """Save under ranks, load in one process, and the other way round."""
    fit = [name for name in SHARDED if not _skipped(subject, name)]
    if not fit:
        return does_not_apply(_skipped(subject, SHARDED[-1]))
    rows = grid(subject.executor, subject.task, [(fit[0], RANKS), ("single", 1)])
    for row in rows:
        way = (
            f"saved under {row['saved_under']} on {row['saved_ranks']} and loaded under "
            f"{row['loaded_under']} on {row['loaded_ranks']}"
        )
        for what in ("state", "data"):
            if not row[f"{what}_equal"]:
                of = "state" if what == "state" else "next batch"
                return fails(f"{way}, the {of} differs", "see state and resume above")
    apart = max(row["difference"] for row in rows)
    then = f"next losses are within {apart:.0e}"
    if apart > parallel.TOLERANCE:
        then = f"next losses differ by {apart:.2g}: see parity above"
    return holds(
        f"{fit[0]} on {RANKS} ranks and a single process load each other's checkpoints; {then}"
    )


def _skipped(subject: Subject, configuration: str) -> str:
    """Return why a configuration is not for this cell; empty if it is."""
    task = subject.task
    if task.budget.batch_size % RANKS:
        return f"a batch of {task.budget.batch_size} does not divide among {RANKS} ranks"
    cell = replace(task.cell, parallel=configuration)
    return matrix.skip_reason(task.topic, cell, 0, RANKS) or parallel_reason(configuration)


def parallel_reason(configuration: str) -> str:
    """Return why a configuration cannot run on this machine's CPU; empty if it can."""
    return parallel.skip_reason(configuration, 0, RANKS) or ""
