"""Train cells only to choose by: validated at their end, not reported, saved or audited."""

from __future__ import annotations

from harness.cell import Status
from harness.training.loop import Diverged, Training
from harness.training.population.population import Population
from harness.trial import cost
from harness.trial.device import device_of
from harness.trial.outcome import Outcome
from harness.trial.task import Task, judged, measured, training_of


def choose(task: Task) -> Outcome:
    """Train a task's cell to its end, or until it diverges, and validate it."""
    device = device_of(task, 0)
    clock = cost.Clock(device)
    training = training_of(task, device, 0)
    diverged = None
    with clock.measure("train_s"):
        try:
            training.run(task.budget.steps)
        except Diverged as error:
            diverged = error
    return _outcome(task, training, diverged, clock)


def choose_all(tasks: tuple[Task, ...], population: Population) -> dict[str, Outcome]:
    """Train a population's cells to their end, and validate each; return outcomes by cell id."""
    clock = cost.Clock(population.device)
    with clock.measure("train_s"):
        population.run(population.budget.steps)
        population.update_members()
        population.update_histories()
    found = {}
    own = {task.cell: task for task in tasks}
    for member in population.members:
        alone = cost.Clock(population.device)
        alone.seconds["train_s"] = clock.seconds["train_s"] / len(population)
        found[member.cell.id] = _outcome(
            own[member.cell], member, population.ended.get(member.cell), alone
        )
    return found


def _outcome(
    task: Task, training: Training, diverged: Diverged | None, clock: cost.Clock
) -> Outcome:
    """Validate a training; one without validation data is measured as it would be reported."""
    if diverged is not None:
        return Outcome(
            status=Status.DIVERGED,
            reason=str(diverged),
            diverged_at=diverged.step,
            cost=cost.times(clock.seconds | {"wall_s": clock.elapsed()}),
        )
    with clock.measure("eval_s"):
        validation, _ = measured(task, training.validate(), "validate")
        metrics = {} if validation else measured(task, training.evaluate())[0]
    spent = cost.times(clock.seconds | {"wall_s": clock.elapsed()})
    return judged(task, Outcome(metrics=metrics, validation=validation, cost=spent))
