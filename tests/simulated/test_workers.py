"""Workers that train on the CPU where PyTorch sees a GPU."""

from dataclasses import replace

import pytest
import torch
from toy import BUDGET, Toy, run

from harness.axes import parallel
from harness.cell import Cell
from harness.conditions import BESIDE
from harness.runs import Run
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")


@pytest.mark.parametrize("name", [name for name in parallel.NAMES if name != "dp"])
def test_cells_on_the_cpu_train_as_ever(name, tmp_path):
    """PowerSGD and sharded checkpoints would use a GPU that their process saw."""
    assert torch.cuda.device_count() == 1
    cell = replace(CELL, parallel=name)
    task = Task(Toy(), cell, BUDGET, tmp_path, world_size=parallel.ranks(name, 2))
    (outcome,) = run(tmp_path, task)
    assert (outcome.status, outcome.reason) == ("done", "")
    assert outcome.audited.state_equal and outcome.audited.resume_equal


def test_what_a_gpu_makes_slower_trains_beside_it_and_that_is_said(tmp_path, topics, log):
    said = []
    run = Run(tmp_path, topics, "smoke", report=said.append)
    cells = [Cell("regression", "linear", "mse", "cosine", name) for name in ("single", "ddp")]
    try:
        run.start(cells)
        run.finish()
    finally:
        run.close()
    assert [run.records[cell].status for cell in cells] == ["done", "done"]
    assert {run.records[cell].environment["device"] for cell in cells} == {"cpu"}
    assert run.environment["device"] == "Simulated GPU"
    assert said.count(f"regression: {BESIDE}") == 1
