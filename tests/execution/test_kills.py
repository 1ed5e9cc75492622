"""kill -9 of a rank, of a population's process and of an auditing one, each in the middle."""

import os
import signal
from dataclasses import replace

import pytest
from toy import Toy
from toy_population import Crowded, cells

from harness.cell import Budget, Cell
from harness.trial.population import PopulationTask
from harness.trial.task import Task

BUDGET = Budget(steps=2000, batch_size=8, timeout_s=60)


def ended(executor, task, role, rank=0):
    """The outcome of a task of which a process is killed in a role, in training after a step."""
    executor.submit([task])
    found, killed = {}, False
    while executor.pending():
        for gang in executor._gangs:
            worker = gang.workers[rank]
            if not killed and gang.role == role and (role == "audit" or worker.pulse().step):
                os.kill(worker.process.pid, signal.SIGKILL)
                killed = True
        found |= dict(executor.pump(0.001))
    assert killed
    return found[task]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("role", ["train", "audit"])
def test_a_killed_rank_of_fsdp_is_named_while_it_trains_and_audits(executor, tmp_path, role, rank):
    cell = Cell("toy", "line", "mse", "cosine", "fsdp")
    steps = 6 if role == "audit" else BUDGET.steps
    task = Task(Toy(), cell, replace(BUDGET, steps=steps), tmp_path, world_size=2)
    found = ended(executor, task, role, rank)
    assert found.status == "failed"
    assert found.reason.endswith(f"rank {rank} died: killed by SIGKILL")
    assert found.reason.startswith("while its checkpoint was audited") == (role == "audit")
    assert bool(found.metrics) == (role == "audit")


def test_a_killed_population_is_an_outcome(executor, tmp_path):
    budget = replace(BUDGET, steps=20000)
    tasks = tuple(Task(Crowded(), cell, budget, tmp_path) for cell in cells())
    found = ended(executor, PopulationTask.of(tasks, compiled=False), "train")
    assert (found.status, found.reason) == ("failed", "rank 0 died: killed by SIGKILL")
