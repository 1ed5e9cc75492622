"""What a training keeps beside its networks lies on its GPU, and is brought back there."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from toy import Toy

from harness.axes.parallel import layout
from harness.cell import Budget, Cell
from harness.checkpoint import digest
from harness.runs import Run
from harness.studies.throughput import Case
from harness.training.loop import Training
from harness.training.random_state import random_state, set_random_state
from harness.trial import cost

GPU = torch.device("cuda", 0)
BUDGET = Budget(steps=20, batch_size=8)


def test_a_digest_is_of_values_wherever_they_lie(log):
    value = torch.randn(5, 3)
    assert digest(value.to(GPU)) == digest(value)


@pytest.mark.parametrize("model", Toy.models)
def test_a_toy_s_training_goes_on_there(model, log):
    cell = Cell("toy", model, "mse", "cosine")
    first = Training(Toy(), cell, BUDGET, GPU)
    first.run(5)
    tree = first.state_dict()
    first.run(10)
    second = Training(Toy(), cell, BUDGET, GPU)
    second.load_state_dict(tree)
    second.run(10)
    assert torch.equal(torch.stack(first.losses), torch.stack(second.losses))
    assert first.evaluate() == second.evaluate()


def test_plateau_reads_the_losses_once_a_window(log):
    cell, steps = Cell("toy", "line", "mse", "plateau"), 100  # windows of 2
    own, there = (
        Training(Toy(), cell, Budget(steps, batch_size=8), device)
        for device in (GPU, torch.device("cpu"))
    )
    for step in range(steps):
        with log.phase("step"):
            own.advance()
        there.advance()
        assert log.counts("step").get("wait", 0) == (step + 1) // 2
    assert own.rates == there.rates and min(own.rates) < own.rates[0]


def test_a_gpu_s_generator_is_kept_for_trainings_on_it_alone(log):
    generator = torch.Generator()
    assert random_state(generator, [])["cuda"] == []
    kept = random_state(generator, [GPU])
    assert len(kept["cuda"]) == 1
    drawn = torch.randn(3, device=GPU).tolist()
    set_random_state(kept, generator, [])
    assert torch.randn(3, device=GPU).tolist() != drawn
    set_random_state(kept, generator, [GPU])
    assert torch.randn(3, device=GPU).tolist() == drawn


def test_powersgd_s_memory_comes_back_to_the_gpu(log):
    made = object.__new__(layout.Layout)
    made.networks = {"model": nn.Linear(2, 2).to(GPU)}
    made.compression = {"model": SimpleNamespace(rng=np.random.RandomState(0), iter=0)}
    for name in layout.MEMORY:
        setattr(made.compression["model"], name, {0: torch.ones(2).to(GPU)})
    tree = made.state_dict()
    for name in layout.MEMORY:
        tree["model"][name] = {0: torch.arange(2.0)}  # as a checkpoint has it
    made.load_state_dict(tree)
    (value,) = made.compression["model"].error_dict.values()
    assert value.device == GPU and value.tolist() == [0, 1]


def test_steps_are_timed_where_the_run_trains(log, tmp_path, topics):
    run = Run(tmp_path, {"toy": Toy()} | topics, "quick")
    assert Case(run, "regression", "mlp").device.type == "cpu"
    case = Case(run, "toy", "line")
    case.step()
    assert (
        case.device.type == "cuda"
        and next(case.training.networks["model"].parameters()).device == GPU
    )
    assert cost.environment("cuda")["device"] == "Simulated GPU"
