"""Peak memory: what the training itself adds, whatever its process did before and does between."""

import sys
from dataclasses import dataclass, replace

import pytest
import torch
from toy import BUDGET, Toy

from harness.cell import Cell
from harness.trial.cost import Clock
from harness.trial.memory import PeakMemory
from harness.trial.task import Task
from harness.trial.train import train

MB = 2**18  # float32 values
CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a peak since a moment")


@linux
@pytest.mark.parametrize("earlier_mb", [0, 300])
def test_what_the_process_held_before_is_not_counted(earlier_mb):
    kept, freed = torch.ones(100 * MB), torch.ones(earlier_mb * MB)
    del freed
    memory = PeakMemory(CPU)
    with memory.watched():
        torch.ones(80 * MB)  # freed at once: it counts all the same
    assert 75 < memory.mb < 100
    assert len(kept) == 100 * MB


@linux
def test_only_what_is_timed_as_a_training_s_is_counted():
    clock = Clock()
    clock.memory = PeakMemory(CPU)
    torch.ones(400 * MB)
    with clock.measure("train_s"):
        with clock.measure("first_steps_s"):
            torch.ones(60 * MB)
        with clock.measure("eval_s"):
            torch.ones(300 * MB)
            [torch.ones(MB // 64) for _ in range(6400)]  # small pieces, which the heap would keep
        torch.ones(40 * MB)
    torch.ones(200 * MB)
    assert 55 < clock.memory.mb < 90


def test_of_a_gpu_it_is_what_pytorch_allocates_from_the_block_s_begin_on(monkeypatch):
    device, held, peak = torch.device("cuda"), 100 * 2**20, 0
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: begin())

    def begin():
        nonlocal peak
        peak = held

    memory = PeakMemory(device)
    for needed_mb, watched in [(900, False), (120, True), (500, False), (110, True)]:
        memory.watch(watched)
        peak = max(peak, needed_mb * 2**20)
    memory.watch(False)
    assert memory.mb == 120


@dataclass(frozen=True)
class Validated(Toy):
    """Its validation takes as many MiB as it says."""

    validate_mb: int = 0

    def validate(self, networks, cell):
        torch.ones(self.validate_mb * MB)
        return {"mse": 1.0}


@linux
def test_a_training_s_peak_is_without_its_validation(tmp_path):
    topic, budget = Validated(validate_mb=200), replace(BUDGET, looks=3)
    own = Task(topic, Cell("validated", "line", "mse", "cosine"), budget, tmp_path)
    assert train(own).cost["peak_memory_mb"] < 50
