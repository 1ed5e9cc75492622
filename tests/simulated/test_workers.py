"""Workers that train on the CPU where PyTorch sees a GPU."""

from dataclasses import replace

import pytest
import torch
from toy import BUDGET, Toy, run

from harness.axes import parallel
from harness.cell import Cell
from harness.execution.local import LocalExecutor
from harness.trial import device
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")


@pytest.mark.parametrize("name", [name for name in parallel.NAMES if name != "dp"])
def test_cells_on_the_cpu_train_as_ever(name, tmp_path, monkeypatch):
    assert torch.cuda.device_count() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "untouched")
    assert device.choose("cpu") == "cpu"
    cell = replace(CELL, parallel=name)
    task = Task(Toy(), cell, BUDGET, tmp_path, world_size=parallel.ranks(name, 2))
    (outcome,) = run(tmp_path, task)
    assert (outcome.status, outcome.reason) == ("done", "")
    assert outcome.audited.state_equal and outcome.audited.resume_equal


def test_idle_processes_end(tmp_path):
    executor = LocalExecutor()
    try:
        executor.submit([Task(Toy(), CELL, BUDGET, tmp_path)])
        while executor.pending():
            executor.pump()
        assert not any(executor._pool._idle.values())
    finally:
        executor.close()
