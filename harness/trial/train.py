"""Train one cell: leave its middle and final checkpoints, measure its quality and its cost."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from harness import checkpoint
from harness.axes import parallel
from harness.cell import FP32, Cell, Status
from harness.checkpoint import estimators
from harness.training import heartbeat
from harness.training.loop import Diverged, Training
from harness.training.random_state import seed_everything
from harness.training.topic import Topic
from harness.trial import cost, nvml, parity
from harness.trial.choosing import choose
from harness.trial.device import device_of, own_gpus, unrepeatable
from harness.trial.held_out import HeldOut
from harness.trial.memory import PeakMemory
from harness.trial.outcome import Outcome, Saved
from harness.trial.samples import Film
from harness.trial.task import Task, judged, measured, network_digest, training_of


def train(task: Task, rank: int = 0) -> Outcome:
    """Train a task's cell to its end, or until it diverges, and return its outcome.

    All ranks of a task call it together; rank 0's outcome is the cell's. Files go below
    ``task.run``. A later attempt goes on from the middle checkpoint, if there is one.
    """
    with unrepeatable() as operators:
        outcome = _train(task, rank)
    return replace(outcome, unrepeatable=tuple(operators))


def _train(task: Task, rank: int) -> Outcome:
    """Train a task's cell and return its outcome, as ``train`` does."""
    if task.choosing:
        return choose(task)
    if task.fitted:
        return _fit(task)
    device = device_of(task, rank)
    clock = cost.Clock(device, nvml.energy_counter(own_gpus(task)))
    if rank == 0 and not task.attempt:
        task.forget()
    with clock.measure("audit_s"):
        found = parity.measure(task, rank) if parity.applies(task) else None
    training = training_of(task, device, rank)
    film = Film(task, training, clock)
    saved = _resume(task, training) if task.attempt else None
    held_out, begun = HeldOut(task, training, clock), training.step
    near = task.middle if begun < task.middle else task.middle + task.replayed_steps
    first = min(cost.FIRST_STEPS, near - begun)

    def look(step: int) -> None:
        film.look(step)
        held_out.look(step)

    diverged: Diverged | None = None
    clock.memory = PeakMemory(device)
    with clock.measure("train_s"):
        try:
            with clock.measure("first_steps_s"):
                training.run(begun + first, look)
            training.run(task.middle, look)
            with clock.measure("audit_s"):
                saved = saved or save(task, training, "middle")
            training.run(task.middle + task.replayed_steps, look)
            with clock.measure("audit_s"):
                saved = replace(saved, replayed_digest=network_digest(training))
            training.run(task.budget.steps, look)
        except Diverged as error:
            diverged = error
    outcome = finish(task, training, film, held_out, saved, diverged, clock)
    if rank != 0:
        return outcome
    if found:
        parts = f" in {task.accumulate} parts" if task.accumulate > 1 else ""
        precise = "" if task.cell.precision == FP32 else f" in {task.cell.precision}"
        outcome = outcome.with_parity(found, f"{task.cell.parallel}{precise}{parts}")
    clock.include("first_steps_s", "train_s")
    clock.seconds["wall_s"] = clock.elapsed()
    energy_j = clock.joules["train_s"]
    measured_cost = cost.of_training(
        training, clock.seconds, clock.memory.mb, energy_j, begun, first
    )
    return replace(outcome, cost=measured_cost)


def finish(
    task: Task,
    training: Training,
    film: Film,
    held_out: HeldOut,
    saved: Saved | None,
    diverged: Diverged | None,
    clock: cost.Clock,
) -> Outcome:
    """Evaluate a training after its last step, save its samples and checkpoint, return its outcome.

    saved: of the middle checkpoint. diverged: how the training came to nothing, None if it did not.
    All ranks call it together; only rank 0's outcome is whole. It has no cost yet.
    """
    with clock.measure("eval_s"):
        if diverged is None:
            metrics, evaluation = measured(task, training.evaluate())
            validation, _ = measured(task, training.validate(), "validate")
            outcome = Outcome(metrics=metrics, validation=validation, evaluation=evaluation)
            outcome = judged(task, outcome)
        else:
            reason, step = str(diverged), diverged.step
            outcome = Outcome(status=Status.DIVERGED, reason=reason, diverged_at=step)
        seen = held_out.end(outcome.validation)
        outcome = replace(outcome, samples=film.save(), held_out=seen)
    if diverged is None and saved is not None:
        training.settle()
        save(task, training, "final")
        outcome = replace(outcome, saved=replace(saved, metrics=outcome.metrics))
    if training.rank != 0:
        return outcome
    with clock.measure("eval_s"), heartbeat.beating():
        baseline, _ = measured(task, _baseline(task.topic, task.cell), "baseline")
    return replace(outcome, baseline=baseline, curve=training.curve())


def save(task: Task, training: Training, name: str) -> Saved:
    """Write a training's checkpoint ``name`` (middle or final); all ranks call it together.

    Returns what the audit is to find again.
    """
    tree, clock = training.state_dict(), cost.Clock(training.device)
    with clock.measure("save_s"):
        size = checkpoint.save(task.folder / f"{name}.pt", tree)
    return _saved(task, tree, size, clock.seconds["save_s"])


def _saved(task: Task, tree: dict, size: int, save_s: float) -> Saved:
    """Return what the audit is to find of a saved tree; the digest on rank 0 only."""
    tree = parallel.full_tensors(tree)
    digest = checkpoint.digest(tree) if parallel.is_rank_zero() else ""
    return Saved(digest, size, save_s, task.replayed_steps)


def _resume(task: Task, training: Training) -> Saved | None:
    """Bring a training to the middle checkpoint of an attempt that failed, if it came that far."""
    path = task.folder / "middle.pt"
    try:
        tree = checkpoint.load(path)
    except checkpoint.CheckpointError:
        return None
    if tree["cell"] != task.cell.id:
        return None
    training.load_state_dict(tree)
    return _saved(task, training.state_dict(), _size(path), 0.0)


def _size(path: Path) -> int:
    """Return a checkpoint's bytes on disk, be it a file or a folder."""
    parts = path.iterdir() if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts)


def _baseline(topic: Topic, cell: Cell) -> dict:
    """Return the metrics without training, cached: no schedule, ranks or precision changes them."""
    same = replace(cell, schedule="constant", parallel="single", rate=None, precision=FP32)
    return _baseline_of(topic, same)


@lru_cache(maxsize=64)
def _baseline_of(topic: Topic, cell: Cell) -> dict:
    return topic.baseline(cell)


def _fit(task: Task) -> Outcome:
    """Train, evaluate and save a model that scikit-learn's ``fit`` trains; return its outcome."""
    clock = cost.Clock()
    seed_everything(task.cell.seed)
    with clock.measure("train_s"), heartbeat.ticking():
        estimator = task.topic.fit(task.cell)
    with clock.measure("eval_s"), heartbeat.beating():
        fitted = {"model": estimator}
        metrics, evaluation = measured(task, task.topic.evaluate(fitted, task.cell))
        validation, _ = measured(task, task.topic.validate(fitted, task.cell), "validate")
        baseline, _ = measured(task, task.topic.baseline(task.cell), "baseline")
    with clock.measure("save_s"):
        settings = dataclasses.asdict(task.topic)
        tree = {"cell": task.cell.id, "topic": settings, "estimator": estimators.dumps(estimator)}
        size = checkpoint.save(task.folder / "final.pt", tree)
    outcome = Outcome(
        metrics=metrics,
        validation=validation,
        evaluation=evaluation,
        baseline=baseline,
        saved=Saved(estimators.digest(estimator), size, clock.seconds["save_s"], metrics=metrics),
        cost=cost.times(clock.seconds | {"wall_s": clock.elapsed()}),
    )
    return judged(task, outcome)
