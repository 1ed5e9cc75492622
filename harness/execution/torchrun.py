"""Train one cell across torchrun's ranks, on one node or several that share a folder."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist

from harness.axes import parallel
from harness.execution.process import packed, unpacked
from harness.trial.audit import audit
from harness.trial.device import repeatable
from harness.trial.outcome import Audited, Outcome, Saved
from harness.trial.task import Task
from harness.trial.train import train as train_cell

WAITS = 10  # times a cell's patience: nobody watches these ranks, and rank 0 evaluates alone


def ranks() -> int | None:
    """Return how many ranks torchrun started; None if it did not start this process."""
    return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else None


def is_first() -> bool:
    """Return whether this process is torchrun's rank 0."""
    return os.environ.get("RANK") == "0"


def train(task: Task) -> Outcome | None:
    """Train and audit a task's cell as one of torchrun's ranks; rank 0 returns the outcome.

    It is the outcome that the local executor would give; other ranks return None. The audit runs in
    fresh processes.
    """
    import harness.execution.preload  # noqa: F401  (else its memory would be the training's)

    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    where = ("env://", task.device, WAITS * task.budget.timeout_s)
    with repeatable(task.device), parallel.process_group(rank, task.world_size, *where):
        outcome = train_cell(task, rank)
        # torchrun's own store remembers these ranks: the audit's meet at another
        store = _store() if rank == 0 else None
        meeting = f"tcp://{store.host}:{store.port}" if store else ""
        shared: list[Any] = [outcome.saved, meeting]
        dist.broadcast_object_list(shared)
    saved, meeting = shared
    if saved:
        context = get_context("spawn")
        with ProcessPoolExecutor(1, context, torch.set_num_threads, (1,)) as fresh:
            audited = fresh.submit(_audit, packed(audit, task), rank, meeting, saved).result()
            outcome = outcome.with_audit(audited)
    return None if rank else outcome


def _store() -> dist.TCPStore:
    """Open a second TCP store on rank 0's host, where the audit's ranks meet."""
    host = os.environ["MASTER_ADDR"]
    return dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)


def _audit(work: bytes, rank: int, meeting: str, saved: Saved) -> Audited:
    """Audit a cell's checkpoints as one rank of a new process group; ``work`` as it is packed."""
    audit, task = unpacked(work)
    where = (meeting, task.device, WAITS * task.budget.timeout_s)
    with repeatable(task.device), parallel.process_group(rank, task.world_size, *where):
        return audit(task, rank, saved)
