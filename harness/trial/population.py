"""Cells that train as one population: which, in one process, and what becomes of each.

A crowd is one task for the executor. If it does not pay, fails or runs out of time, its cells run
one by one; a cell of it that diverges costs itself only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch

from harness import checkpoint
from harness.checkpoint.tree import digest as digest_of
from harness.training.loop import Diverged, Training
from harness.training.population.population import Population
from harness.training.population.stacking import Apart
from harness.trial import audit as auditing
from harness.trial import cost, samples
from harness.trial import train as alone
from harness.trial.task import Task, device_of, digest, measured

MOST = 32  # members
LEAST = 8  # fewer gain little and leave the other cores idle
PAYS = 1.5  # times the steps a second that its cells have alone, or they run alone
TRIED = 5  # steps


@dataclass(frozen=True)
class Crowd(Task):
    """The tasks of one population; as a task, it is its first cell's with time for all."""

    tasks: tuple[Task, ...] = ()
    compiled: bool = False


def group(tasks: Iterable[Task], most: int = MOST, compiled: bool = False) -> list[Task]:
    """The tasks, with those that may train as one made into crowds of LEAST to ``most`` cells.

    They share topic, model, loss, budget and device, on one rank. The others stay as they are.
    """

    def kind(task: Task) -> tuple[str, ...]:
        cell = task.cell
        plain = cell.parallel == "single" and task.accumulate == 1
        if cell.model not in task.topic.populates or not plain:
            return ("", cell.id)
        return (cell.topic, cell.model, cell.loss, str(task.budget), task.device)

    found: list[Task] = []
    for _, some in groupby(sorted(tasks, key=kind), key=kind):
        alike = tuple(some)
        for first in range(0, len(alike), most):
            part = alike[first : first + most]
            found += [_crowd(part, compiled)] if len(part) >= LEAST else part
    return found


def _crowd(tasks: tuple[Task, ...], compiled: bool) -> Crowd:
    first = tasks[0]
    budget = replace(first.budget, timeout_s=first.budget.timeout_s * len(tasks) / PAYS)
    shared = (first.topic, first.cell, budget, first.run, first.device)
    return Crowd(*shared, tasks=tasks, compiled=compiled)


def members(task: Task) -> tuple[Task, ...]:
    """The task of each cell."""
    return task.tasks if isinstance(task, Crowd) else (task,)


def name(task: Task) -> str:
    """A crowd's name for people."""
    cell = task.cell
    return f"{len(members(task))} of {cell.topic}/{cell.model}-{cell.loss}"


def outcomes(task: Task, outcome: dict[str, Any]) -> dict[Task, dict[str, Any]]:
    """What each cell's record is made of; empty if the cells of a crowd are to run one by one."""
    if not isinstance(task, Crowd):
        return {task: outcome}
    if outcome["status"] != "done":
        return {}
    audits = outcome["checkpoint"]
    return {
        own: {**found, "checkpoint": audits.get(own.cell.id, {})}
        for own, found in zip(task.tasks, outcome["members"], strict=True)
    }


def train(task: Task, rank: int = 0) -> dict[str, Any]:
    """Train a cell, or a crowd's cells together.

    A crowd's outcome is ``done`` with its ``members``' outcomes in the order of its tasks, or
    ``apart`` with the reason why they should run one by one.
    """
    if not isinstance(task, Crowd):
        return alone.train(task, rank)
    started = time.perf_counter()
    device = device_of(task, rank)
    try:
        population = _population(task, device)
        gain = _gain(task, population, device)
    except Apart as error:
        return {"status": "apart", "reason": str(error)}
    if gain < PAYS:
        reason = f"{len(population)} together take x{gain:.2f} the steps a second of one"
        return {"status": "apart", "reason": reason}
    note = _compile(population) if task.compiled else ""
    return {"note": note, **_train(task, population, started)}


def _population(task: Crowd, device: torch.device) -> Population:
    cells = [own.cell for own in task.tasks]
    return Population(task.topic, cells, task.tasks[0].budget, device)


def _gain(task: Crowd, population: Population, device: torch.device) -> float:
    """Steps a second of all members together against one's alone, by a few steps of both.

    The population's are the first of its training. On a CPU this process's own time counts, since
    others may be busy on the cores.
    """
    alone = Training(task.topic, task.cell, task.tasks[0].budget, device)
    single_s = min(_step_s(alone, device) for _ in range(TRIED))
    steps = max(1, min(TRIED, task.budget.steps // 4 - 1))  # before anything looks at it
    return len(population) * single_s / min(_step_s(population, device) for _ in range(steps))


def _step_s(training: Training | Population, device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begun = clock()
    training.advance()
    cost.synchronise(device)
    return clock() - begun


def _compile(population: Population) -> str:
    """Why the population goes on without being compiled; empty if it is."""
    try:
        population.compile()
    except Exception as error:  # a missing compiler, an unknown operation: many types
        line = (str(error).strip().splitlines() or [""])[0]
        return f"not compiled: {type(error).__name__}: {line[:200]}"
    return ""


def _train(task: Crowd, population: Population, started: float) -> dict[str, Any]:
    """What alone.train does for a cell, for all members at once."""
    tasks = {own.cell: own for own in task.tasks}
    found: dict[Any, dict[str, Any]] = {cell: {"status": "done"} for cell in tasks}
    films = {m.cell: samples.Film(tasks[m.cell], m) for m in population.members}

    def look(step: int) -> None:
        if task.topic.generates and step in next(iter(films.values())).steps:
            population.spread()
            for member in running():
                films[member.cell].look(step)

    def running() -> list[Training]:
        return [m for m in population.members if m.cell not in population.ended]

    def train_to(step: int) -> float:
        begun = time.perf_counter()
        population.run(step, look)
        cost.synchronise(population.device)
        population.spread()
        population.history()
        return time.perf_counter() - begun

    with cost.peak_memory(population.device) as memory:
        train_s = train_to(task.middle)
        for member in running():
            middle = alone._save(tasks[member.cell], member, "middle")
            found[member.cell]["checkpoint"] = middle
        train_s += train_to(task.middle + task.replayed)
        for member in running():
            found[member.cell]["checkpoint"]["replayed_digest"] = digest(member)
        train_s += train_to(task.budget.steps) - sum(film.seconds for film in films.values())
    for member in population.members:
        outcome = found[member.cell]
        if error := population.ended.get(member.cell):
            outcome |= {"status": "diverged", "reason": str(error), "checkpoint": {}}
        _finish(tasks[member.cell], member, films[member.cell], outcome)
    share_s = train_s / len(population)
    wall_s = (time.perf_counter() - started) / len(population)
    for member in population.members:
        found[member.cell]["population"] = len(population)
        found[member.cell]["cost"] |= {
            "wall_s": wall_s,
            "train_s": share_s,
            "audit_s": 0.0,
            "step_ms": 1e3 * share_s / max(1, population.step),
            "samples_per_s": task.budget.batch_size * population.step / share_s,
            "peak_memory_mb": memory(),
            "parameters": float(cost.parameters(member.networks)),
        }
    checks = {cell.id: out["checkpoint"] for cell, out in found.items() if out["checkpoint"]}
    return {"status": "done", "members": list(found.values()), "checkpoint": checks}


def _finish(task: Task, member: Training, film: samples.Film, outcome: dict[str, Any]) -> None:
    """What alone.train does after the last step."""
    begun = time.perf_counter()
    if outcome["status"] == "done":
        outcome |= measured(task, member.evaluate())
    outcome["baseline"] = measured(task, alone._baseline(task.topic, task.cell))["metrics"]
    outcome["samples"] = film.save()
    outcome["cost"] = {"eval_s": time.perf_counter() - begun}
    if outcome["status"] == "done":
        final = alone._save(task, member, "final")
        outcome["checkpoint"]["final_digest"] = final["digest"]
        outcome["checkpoint"]["metrics"] = outcome["metrics"]
    outcome["curve"] = member.curve()


def audit(task: Task, rank: int, expected: dict[str, Any]) -> dict[str, Any]:
    """The checkpoints of a cell, or by id those of a crowd's cells that were trained to an end.

    A population's are loaded into a fresh population and replayed as one, in the rows they had:
    bit for bit is then what to expect, as it would not be of single trainings. Each final
    checkpoint is evaluated as a single cell's.
    """
    if not isinstance(task, Crowd):
        return auditing.audit(task, rank, expected)
    population = _population(task, device_of(task, rank))
    if task.compiled:
        _compile(population)
    tasks = {own.cell: own for own in task.tasks}
    found: dict[str, dict[str, Any]] = {}
    for member in population.members:
        own, told = tasks[member.cell], expected.get(member.cell.id)
        if told is None:  # its row goes on with other numbers, and nobody looks
            population.ended[own.cell] = Diverged(0)
            continue
        begun = time.perf_counter()
        member.restore(checkpoint.load(own.folder / "middle.pt"))
        load_s = time.perf_counter() - begun
        kept = {name: told[name] for name in ("bytes", "save_s", "replayed_steps")}
        equal = digest_of(member.snapshot()) == told["digest"]
        found[own.cell.id] = kept | {"load_s": load_s, "state_equal": equal}
    population.gather()
    population.run(task.middle + task.replayed)
    population.spread()
    for member in population.members:
        if check := found.get(member.cell.id):
            own, told = tasks[member.cell], expected[member.cell.id]
            check["resume_equal"] = digest(member) == told["replayed_digest"]
            member.restore(checkpoint.load(own.folder / "final.pt"))
            values = measured(own, member.evaluate())
            check["metrics_equal"] = values["metrics"] == told["metrics"]
    return found
