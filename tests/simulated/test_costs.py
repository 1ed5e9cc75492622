"""What a training on the GPU costs: its energy, and times that wait for what was queued."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from fake_nvml import FakeNVML
from toy import Toy

from harness import checkpoint
from harness.cell import Budget, Cell
from harness.runs import Run
from harness.trial import cost, train
from harness.trial.audit import audit
from harness.trial.outcome import Outcome
from harness.trial.task import Task

GPU = torch.device("cuda", 0)
CELL = Cell("toy", "line", "mse", "cosine")
BUDGET = Budget(steps=20, batch_size=8, looks=5)
ON_GPU = {"device": "cuda", "gpus": (0,)}


@pytest.fixture
def nvml(monkeypatch, log):
    """A GPU that uses a joule for each step of a toy, and much more for all else."""
    fake = FakeNVML()
    fake.used_mj["GPU-0"] = 10**9
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    about = lambda _: SimpleNamespace(uuid="0")  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", about)

    def uses(thing, name, mj):
        work = getattr(thing, name)

        def using(*arguments, **named):
            fake.used_mj["GPU-0"] += mj
            return work(*arguments, **named)

        monkeypatch.setattr(thing, name, using)

    uses(Toy, "each_step", 1_000)
    uses(Toy, "validate", 10**6)
    uses(Toy, "evaluate", 10**6)
    uses(train, "save", 10**6)
    return fake


def test_energy_is_that_of_the_steps_alone(nvml, tmp_path):
    found = train.train(Task(Toy(), CELL, BUDGET, tmp_path, **ON_GPU))
    assert found.cost["energy_j"] == pytest.approx(BUDGET.steps)
    assert len(found.held_out["step"]) == BUDGET.looks


@pytest.mark.parametrize("why", ["shared", "no counter", "on the CPU"])
def test_energy_is_left_out_where_it_is_not_the_training_s(why, nvml, tmp_path):
    task = Task(Toy(), CELL, BUDGET, tmp_path, **ON_GPU)
    if why == "shared":
        task = replace(task, per_gpu=2)
    elif why == "on the CPU":
        task = replace(task, device="cpu", gpus=())
    else:
        nvml.lacks.add("nvmlDeviceGetTotalEnergyConsumption")
    assert "energy_j" not in train.train(task).cost


def test_a_block_of_time_begins_and_ends_when_the_gpu_has_done_its_work(log):
    clock = cost.Clock(GPU)
    with log.phase("around"), clock.measure("train_s"), log.phase("inside"):
        pass
    assert log.counts("around") == {"wait": 2} and log.counts("inside") == {}


def test_a_checkpoint_is_timed_from_when_the_gpu_has_done_its_work(log, tmp_path, monkeypatch):
    task = Task(Toy(), CELL, BUDGET, tmp_path, **ON_GPU)
    outcome, training = train.train(task), train.training_of(task, GPU, 0)
    events = []

    def notes(thing, name):
        work = getattr(thing, name)
        monkeypatch.setattr(thing, name, lambda *given: events.append(name) or work(*given))

    notes(checkpoint, "save")
    notes(checkpoint, "load")
    notes(torch.cuda, "synchronize")
    train.save(task, training, "again")
    assert events == ["synchronize", "save", "synchronize"]
    events.clear()
    audit(task, 0, outcome.saved)
    assert events[:3] == ["synchronize", "load", "synchronize"]


class Fitted(Toy):
    """A model on the GPU, and one that scikit-learn fits on the CPU."""

    models = ("line", "tree")
    fits = ("tree",)


def test_what_is_fitted_has_the_cpu_in_its_record(log, tmp_path, monkeypatch):
    fake = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # put back, as device cpu hides them
    run = Run(tmp_path, {"toy": Fitted()}, "quick", device="cuda", per_gpu=3)
    assert run.task(CELL).per_gpu == 3
    tree = replace(CELL, model="tree")
    there, here = (run.keep(cell, Outcome()).environment for cell in (CELL, tree))
    assert (there["device"], there["driver"], there["per_gpu"]) == ("Simulated GPU", "580.1", 3)
    assert here["device"] == "cpu" and not {"driver", "per_gpu", "cuda"} & {*here}
    elsewhere = Run(tmp_path / "cpu", {"toy": Fitted()}, "quick", device="cpu")
    assert elsewhere.fingerprint(tree) == run.fingerprint(tree)
    assert elsewhere.fingerprint(CELL) != run.fingerprint(CELL)
