"""Train and audit cells as one population, or leave them to be trained one by one.

They are if a population does not pay, fails or runs out of time; a cell that diverges costs
itself only. ``train`` and ``audit`` take plain tasks too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from harness import checkpoint
from harness.cell import Cell
from harness.training.agreement import TOLERANCE, largest_difference
from harness.training.loop import Diverged, Training
from harness.training.population.population import Population
from harness.training.population.stacking import NotStackable
from harness.trial import cost, nvml
from harness.trial.audit import audit as audit_cell
from harness.trial.choosing import choose_all
from harness.trial.device import device_of, own_gpus, unrepeatable
from harness.trial.held_out import HeldOut
from harness.trial.memory import PeakMemory
from harness.trial.outcome import Audited, Outcome, PopulationOutcome, Saved
from harness.trial.samples import Film
from harness.trial.task import Task, measured, network_digest, training_of
from harness.trial.train import finish, save
from harness.trial.train import train as train_cell

PAYS = 1.5  # the least gain in steps a second over cells alone; with less they train alone
TRIED = 5  # steps timed to measure the gain
LEAST = 1e-2  # a loss nearer to zero, where its terms may cancel, is compared as if it were this


@dataclass(frozen=True)
class PopulationTask(Task):
    """A task that trains the cells of several tasks as one population.

    Its topic, cell, run and device are its first task's, its patience and its limit are for all.
    compiled: whether the population's step is compiled.
    """

    tasks: tuple[Task, ...] = ()
    compiled: bool = False

    @classmethod
    def of(cls, tasks: tuple[Task, ...], compiled: bool) -> PopulationTask:
        """Make a population's task of tasks that differ in schedule, rate and seed only."""
        first = tasks[0]
        longer = len(tasks) / PAYS
        budget = replace(first.budget, timeout_s=first.budget.timeout_s * longer)
        limit_s = None if first.limit_s is None else first.limit_s * longer
        shared = (first.topic, first.cell, budget, first.run, first.device)
        return cls(
            *shared,
            per_gpu=first.per_gpu,
            choosing=first.choosing,
            limit_s=limit_s,
            tasks=tasks,
            compiled=compiled,
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(task.cell for task in self.tasks)


def train(task: Task, rank: int = 0) -> Outcome | PopulationOutcome:
    """Train a cell, or a population's cells together if a few timed steps show that it pays."""
    if not isinstance(task, PopulationTask):
        return train_cell(task, rank)
    device = device_of(task, rank)
    clock = cost.Clock(device, nvml.energy_counter(own_gpus(task)))
    try:
        population = _population(task, device)
        gain = _gain(task, population, device)
    except NotStackable as error:
        return PopulationOutcome(separate=str(error))
    if gain < PAYS:
        separate = f"{len(population)} together take x{gain:.2f} the steps a second of one"
        return PopulationOutcome(separate=separate)
    note = _compile(population) if task.compiled else ""
    if task.choosing:
        return PopulationOutcome(choose_all(task.tasks, population), note=note)
    with unrepeatable() as operators:
        members = _train(task, population, clock)
    members = {k: replace(v, unrepeatable=tuple(operators)) for k, v in members.items()}
    return PopulationOutcome(members, note=note)


def _population(task: PopulationTask, device: torch.device) -> Population:
    """Make a fresh population of the task's cells. Raises NotStackable."""
    rates = [own.rate for own in task.tasks]
    return Population(task.topic, task.cells, task.tasks[0].budget, device, rates)


def _gain(task: PopulationTask, population: Population, device: torch.device) -> float:
    """Measure how many times as many steps a second all members make together as one alone.

    It is measured by a few steps of both; the population's are the first of its training, up to
    where something looks at it. On a CPU this process's own time counts, since others may be busy
    on the cores. The one alone is the last member, as the first is the one that was traced.
    Raises NotStackable if its losses are not those of its row.
    """
    member = population.members[-1]
    own = next(one for one in task.tasks if one.cell == member.cell)
    alone = training_of(own, device, 0)
    for network in alone.networks.values():
        network.train()
    single_s = min(_step_s(alone, device) for _ in range(TRIED))
    looks = HeldOut(own, member, cost.Clock()).steps
    steps = max(1, min(TRIED, task.budget.steps // 4, *looks))
    together_s = min(_step_s(population, device) for _ in range(steps))
    _compare(alone, population, min(steps, task.topic.agrees))
    return len(population) * single_s / together_s


def _compare(alone: Training, population: Population, steps: int) -> None:
    """Raise NotStackable if the last member's first losses are not those of a training alone.

    They are not where the traced graph holds as a constant what differs from member to member or
    from step to step.
    """
    expected, got = (
        torch.stack(losses[:steps]).tolist()
        for losses in (alone.losses, [losses_N[-1] for losses_N in population.losses])
    )
    apart = largest_difference(expected, got, LEAST)
    if apart > TOLERANCE:
        raise NotStackable(
            f"its members do not train as they would alone: losses differ by {apart:.2g} "
            f"(relative, {TOLERANCE:g} allowed) in the first {steps} steps"
        )


def _step_s(training: Training | Population, device: torch.device) -> float:
    """Make one step; return its seconds, of this process on a CPU, of wall time on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    cost.synchronise(device)
    begun = clock()
    training.advance()
    cost.synchronise(device)
    return clock() - begun


def _compile(population: Population) -> str:
    """Compile the population's step; returns why that failed, empty if it did not."""
    try:
        population.compile()
    except Exception as error:  # a missing compiler, an unknown operation: many types
        line = (str(error).strip().splitlines() or [""])[0]
        return f"not compiled: {type(error).__name__}: {line[:200]}"
    return ""


def _train(task: PopulationTask, population: Population, clock: cost.Clock) -> dict[str, Outcome]:
    """Train all members at once, as ``train_cell`` does one; return their outcomes by cell id."""
    tasks = {own.cell: own for own in task.tasks}
    saved: dict[Cell, Saved] = {}
    films = {m.cell: Film(tasks[m.cell], m, clock) for m in population.members}
    held_out = {m.cell: HeldOut(tasks[m.cell], m, clock) for m in population.members}
    rows_at = next(iter(films.values())).steps if task.topic.generates else set()
    rows_at = rows_at | next(iter(held_out.values())).steps

    def running() -> list[Training]:
        return [m for m in population.members if m.cell not in population.ended]

    def look(step: int) -> None:
        if step in rows_at:
            population.check_finite()
            population.update_members()
            for member in running():
                films[member.cell].look(step)
                held_out[member.cell].look(step)

    def train_to(step: int, name: str = "train_s") -> None:
        with clock.measure(name):
            population.run(step, look)
            population.update_members()
            population.update_histories()

    begun = population.step  # by now it was timed for some steps
    first = max(0, min(cost.FIRST_STEPS, task.middle - begun))
    memory = clock.memory = PeakMemory(population.device)
    if begun:
        look(begun)
    train_to(begun + first, "first_steps_s")
    train_to(task.middle)
    for member in running():
        saved[member.cell] = save(tasks[member.cell], member, "middle")
    train_to(task.middle + task.replayed_steps)
    for member in running():
        saved[member.cell] = replace(saved[member.cell], replayed_digest=network_digest(member))
    train_to(task.budget.steps)
    found: dict[str, Outcome] = {}
    evaluation_s: dict[str, float] = {}
    for member in population.members:
        cell, own = member.cell, cost.Clock(population.device)
        diverged = population.ended.get(cell)
        seen = (films[cell], held_out[cell])
        outcome = finish(tasks[cell], member, *seen, saved.get(cell), diverged, own)
        found[cell.id] = replace(outcome, population=len(population))
        evaluation_s[cell.id] = own.seconds["eval_s"]
    clock.include("first_steps_s", "train_s")
    shares = {name: clock.seconds[name] for name in ("train_s", "first_steps_s")}
    shares = {n: s / len(population) for n, s in {**shares, "wall_s": clock.elapsed()}.items()}
    energy_j = clock.joules["train_s"] / len(population)
    for member in population.members:
        name = member.cell.id
        seconds = shares | {"eval_s": evaluation_s[name]}
        own_cost = cost.of_training(member, seconds, memory.mb, energy_j, begun, first)
        found[name] = replace(found[name], cost=own_cost)
    return found


def audit(
    task: Task, rank: int, saved: Saved | Mapping[str, Saved]
) -> Audited | dict[str, Audited]:
    """Audit a cell's checkpoints, or those of a population's members by cell id.

    A population's are loaded into a fresh population and replayed as one, in the rows they had:
    bit for bit is then what to expect, as it would not be of single trainings. Each final
    checkpoint is evaluated as a single cell's.
    """
    if not isinstance(task, PopulationTask):
        assert isinstance(saved, Saved)
        return audit_cell(task, rank, saved)
    assert not isinstance(saved, Saved)
    population = _population(task, device_of(task, rank))
    if task.compiled:
        _compile(population)
    tasks = {own.cell: own for own in task.tasks}
    loaded: dict[Cell, tuple[str, float]] = {}
    for member in population.members:
        cell = member.cell
        if cell.id not in saved:  # its row goes on with other numbers, and nobody looks
            population.ended[cell] = Diverged(0)
            continue
        clock = cost.Clock(population.device)
        with clock.measure("load_s"):
            member.load_state_dict(checkpoint.load(tasks[cell].folder / "middle.pt"))
        loaded[cell] = checkpoint.digest(member.state_dict()), clock.seconds["load_s"]
    population.update_rows()
    population.run(task.middle + task.replayed_steps)
    population.update_members()
    found: dict[str, Audited] = {}
    for member in population.members:
        if (cell := member.cell) not in loaded:
            continue
        digest, load_s = loaded[cell]
        replayed = network_digest(member)
        member.load_state_dict(checkpoint.load(tasks[cell].folder / "final.pt"))
        metrics, _ = measured(tasks[cell], member.evaluate())
        found[cell.id] = saved[cell.id].hold_to(digest, replayed, metrics, load_s)
    return found
