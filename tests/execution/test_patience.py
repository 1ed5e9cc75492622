"""A trial is given up for standing still or past a limit, and for nothing else."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from toy import Toy, outcome

from harness.axes import parallel
from harness.cell import Budget, Cell
from harness.execution.patience import SLOWER, given_up
from harness.training import heartbeat
from harness.training.heartbeat import Pulse
from harness.training.loop import Training
from harness.trial.population import PAYS, PopulationTask
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")


def task(tmp_path, limit_s=None):
    return Task(Toy(), CELL, Budget(20, 8, timeout_s=60), tmp_path, limit_s=limit_s)


@pytest.mark.parametrize(
    ("pulses", "reason"),
    [
        ([Pulse(59, 7)], ""),
        ([Pulse(61, 7)], "no progress for 60 s at step 7 of 20"),
        ([Pulse(61)], "no progress for 60 s"),
        ([Pulse(61, 7), Pulse(1, 7)], ""),
        ([Pulse(61, 7, step_s=20)], ""),
        ([Pulse(61, 7, step_s=20), Pulse(SLOWER * 20 + 1, 7)], ""),
        ([Pulse(SLOWER * 20 + 1, 7, step_s=20)], "no progress for 100 s at step 7 of 20"),
    ],
)
def test_only_what_stands_still_for_long_beside_its_own_steps_is_given_up(tmp_path, pulses, reason):
    assert given_up(task(tmp_path), pulses, running_s=1e6) == reason


def test_a_limit_holds_for_what_advances_too(tmp_path):
    limited = task(tmp_path, limit_s=600)
    assert given_up(limited, [Pulse(0, 12)], running_s=599) == ""
    over = "over --timeout 600 s at step 12 of 20"
    assert given_up(limited, [Pulse(0, 12)], running_s=601) == over


def test_steps_and_an_evaluations_forward_passes_are_beats(monkeypatch):
    monkeypatch.setattr(heartbeat, "_memory", [0.0] * heartbeat.SLOTS)
    training = Training(Toy(), CELL, Budget(5, 8))
    training.run(3)
    found = heartbeat.own_pulse(0.0)
    assert found.step == 3 and found.step_s > 0
    seen = []
    monkeypatch.setattr(heartbeat, "beat", lambda step=None: seen.append(step))
    training.evaluate()
    assert len(seen) >= 3  # a linear layer, what holds it, the end
    count = len(seen)
    training.networks["model"](torch.zeros(1, 3))
    assert len(seen) == count


@dataclass(frozen=True)
class Slow(Toy):
    """Its first evaluation on rank 0 lasts longer than its patience, with forward passes."""

    def evaluate(self, networks, cell):
        if not Path(self.once).exists():
            Path(self.once).touch()
            end = time.monotonic() + 10
            while time.monotonic() < end:
                networks["model"](torch.zeros(4000, 3))
        return super().evaluate(networks, cell)


def test_ranks_wait_while_one_evaluates_for_longer_than_the_patience(executor, tmp_path):
    cell = replace(CELL, parallel="fsdp")
    assert parallel.is_sharded("fsdp")
    slow = Slow(once=str(tmp_path / "evaluated"))
    found = outcome(executor, slow, cell, tmp_path, budget=Budget(4, 8, timeout_s=8))
    assert found.status == "done", found.reason


def test_the_limit_of_an_option_ends_a_cell_that_advances(executor, tmp_path):
    endless = replace(task(tmp_path, limit_s=3), budget=Budget(10**9, 8, timeout_s=60))
    executor.submit([endless])
    found = {}
    while executor.pending():
        found |= dict(executor.pump())
    assert found[endless].status == "timeout"
    assert found[endless].reason.startswith("over --timeout 3 s at step ")


def test_a_populations_patience_and_limit_are_for_all_its_cells(tmp_path):
    tasks = tuple(replace(task(tmp_path, 30.0), cell=replace(CELL, seed=n)) for n in range(6))
    whole = PopulationTask.of(tasks, compiled=False)
    assert (whole.limit_s, whole.budget.timeout_s) == (30 * 6 / PAYS, 60 * 6 / PAYS)
    over = "over 120 s, --timeout for 6 cells as one at step 3 of 20"
    assert given_up(whole, [Pulse(0, 3)], running_s=121) == over


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_only_the_cores_of_this_process_count():
    code = (
        "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "from harness.execution.local import LocalExecutor; from harness.trial import cost\n"
        "print(LocalExecutor().cores, cost.environment('cpu')['cores'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "1"]
