"""Resharding study: save a checkpoint under one parallel configuration, load it under another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness import checkpoint
from harness.axes import parallel
from harness.checkpoint.tree import digest
from harness.execution.local import LocalExecutor
from harness.matrix import skip_reason
from harness.runs import Run
from harness.studies.study import keep, own_executor, task_of
from harness.training.agreement import largest_difference
from harness.training.loop import Training
from harness.trial.device import device_of, gpus
from harness.trial.task import Task, training_of

BEFORE, AFTER = 5, 3  # steps
LAYOUTS = (("single", 1), *((name, n) for name in ("ddp", "zero1", "fsdp") for n in (1, 2)))
PORTABLE = ("networks", "optimizers", "schedules", "step", "random", "batches", "history")


def grid(
    executor: LocalExecutor, task: Task, layouts: Iterable[tuple[str, int]] = LAYOUTS
) -> list[dict[str, Any]]:
    """Save a training under each layout and load it under each, and return a row for each pair.

    A layout is a parallel configuration and a number of ranks. state_equal: what is loaded is bit
    for bit what was saved; data_equal: so is the next batch; difference: the largest relative one
    of the next losses from those of the training that went on where it was saved, which is rounding
    where the configurations are exact.
    """
    rows = []
    layouts = list(layouts)
    for name, ranks in layouts:
        path = task.run / "resharding" / f"{name}-{ranks}.pt"
        here = replace(task, cell=replace(task.cell, parallel=name), world_size=ranks)
        saved = executor.call(_Save(path), here)
        for other, others in layouts:
            there = replace(here, cell=replace(here.cell, parallel=other), world_size=others)
            loaded = executor.call(_Load(path), there)
            rows.append(
                {
                    **{"topic": task.cell.topic, "model": task.cell.model},
                    **{"saved_under": name, "saved_ranks": ranks},
                    **{"loaded_under": other, "loaded_ranks": others},
                    "state_equal": saved["state"] == loaded["state"],
                    "data_equal": saved["batch"] == loaded["batch"],
                    "difference": largest_difference(saved["losses"], loaded["losses"]),
                }
            )
    return rows


@dataclass(frozen=True)
class _Save:
    """Trains a few steps, saves a checkpoint, and trains on: digests and the next losses."""

    path: Path

    def __call__(self, task: Task, rank: int) -> dict[str, Any]:
        training = training_of(task, device_of(task, rank), rank)
        training.run(BEFORE)
        tree = training.state_dict()
        checkpoint.save(self.path, tree)
        return {"state": _state(tree)} | _onward(training)


@dataclass(frozen=True)
class _Load:
    """Loads a checkpoint into a new training, and trains on: digests and the next losses."""

    path: Path

    def __call__(self, task: Task, rank: int) -> dict[str, Any]:
        training = training_of(task, device_of(task, rank), rank)
        training.load_state_dict(checkpoint.load(self.path))
        return {"state": _state(training.state_dict())} | _onward(training)


def _state(tree: dict[str, Any]) -> str:
    """Return a digest of a training's whole state, the same under every configuration."""
    whole = parallel.full_tensors({name: tree[name] for name in PORTABLE})
    return digest(whole)


def _onward(training: Training) -> dict[str, Any]:
    """Train a few more steps; return their losses, and the digest of the next batch."""
    state, random = training.batches.state_dict(), training.generator.get_state()
    batch = digest(dict(training.batches.draw(training.budget.batch_size)))
    training.batches.load_state_dict(state)
    training.generator.set_state(random)
    training.run(BEFORE + AFTER)
    return {"batch": batch, "losses": [loss.item() for loss in training.losses[BEFORE:]]}


def resharding(run: Run, topic: str, model: str) -> pd.DataFrame:
    """Save a model's training under single, ddp, zero1 and fsdp, and load it under each of them.

    Without those that this machine has too few GPUs for. Returns a row per pair, and writes them to
    ``resharding.csv``. Raises UsageError for an unknown topic or model.
    """
    task = task_of(run, topic, model)
    cells = {name: replace(task.cell, parallel=name) for name, _ in LAYOUTS}
    fit = [
        (name, n)
        for name, n in LAYOUTS
        if skip_reason(task.topic, cells[name], gpus(task.device), n) is None
    ]
    with own_executor() as executor:
        return keep(run, "resharding", task, grid(executor, task, fit))
