"""What a trial's seconds and joules went for, and how long trainings are expected to take."""

import math
from dataclasses import replace

import pytest
import torch
from toy import BUDGET, Toy

from harness.cell import Cell
from harness.runs import Run
from harness.training.loop import Training
from harness.trial import cost


def test_a_clock_counts_each_second_and_joule_once(monkeypatch):
    now, used = 0.0, 0.0
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now)
    clock = cost.Clock(counter=lambda: used)
    for _ in range(2):
        with clock.measure("train_s"):
            now, used = now + 1, used + 10
            with clock.measure("eval_s"):
                now, used = now + 5, used + 300
                with clock.measure("audit_s"):
                    now, used = now + 0.5, used + 7
            now, used = now + 2, used + 20
    assert clock.seconds == {"train_s": 6, "eval_s": 10, "audit_s": 1}
    assert clock.joules == {"train_s": 60, "eval_s": 600, "audit_s": 14}


@pytest.mark.parametrize(("energy_j", "known"), [(5.0, True), (0.0, False), (math.nan, False)])
def test_energy_that_is_not_known_is_not_in_the_cost(energy_j, known):
    training = Training(Toy(), Cell("toy", "line", "mse", "cosine"), BUDGET)
    found = cost.of_training(training, {"train_s": 1.0}, 1.0, energy_j)
    assert found.get("energy_j") == (energy_j if known else None)


@pytest.mark.parametrize(
    ("begun", "first", "step_ms", "rate"),
    [(0, 3, 1000, 8.0), (10, 0, 900, 80 / 9), (0, 20, 450, 160 / 9)],
)
def test_the_first_steps_are_no_part_of_the_time_per_step(begun, first, step_ms, rate):
    training = Training(Toy(), Cell("toy", "line", "mse", "cosine"), BUDGET)
    training.run(20)
    seconds = {
        "train_s": 9.0 if first == 20 or begun else 37.0,
        "first_steps_s": 20.0 * (first == 3),
    }
    found = cost.of_training(training, seconds, 1.0, begun=begun, first=first)
    assert found["step_ms"] == pytest.approx(step_ms) and found["samples_per_s"] == pytest.approx(
        rate
    )
    assert found.get("first_steps_s") == (20.0 if first == 3 else None)


def test_slowness_is_how_long_a_pass_takes_beside_the_budgets_core(monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr(cost.time, "process_time", lambda: next(ticks) * cost.PASS_S * 1.5)
    cost.slowness.cache_clear()
    torch.set_num_threads(2)
    try:
        assert cost.slowness() == pytest.approx(1.5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
        cost.slowness.cache_clear()


def test_a_run_expects_its_cells_to_take_as_much_longer_as_this_core_is_slower(
    monkeypatch, tmp_path
):
    run = Run(tmp_path, {"toy": Toy()}, "quick")
    cell = Cell("toy", "line", "mse", "cosine")
    monkeypatch.setattr(cost, "slowness", lambda: 3.0)
    assert run.predict(cell) == pytest.approx(0.3)


class Sorts(Toy):
    """Models of each sort: trained alone, by ``fit`` on the CPU, in populations."""

    models = ("line", "dropout", "tree")
    fits = ("tree",)
    populates = ("dropout",)


@pytest.mark.parametrize(
    ("model", "launch_s", "expected_s"),
    [("line", 1.0, 20), ("line", 0.001, 0.1), ("dropout", 1.0, 0.1), ("tree", 1.0, 0.3)],
)
def test_a_run_expects_a_step_on_a_gpu_to_be_launched(
    model, launch_s, expected_s, monkeypatch, tmp_path
):
    run = Run(tmp_path, {"toy": Sorts()}, "quick")
    run.device, run.gpus = "cuda", 1
    monkeypatch.setattr(cost, "slowness", lambda: 3.0)
    monkeypatch.setattr(cost, "LAUNCH_S", launch_s)
    cell = Cell("toy", model, "mse", "cosine")
    assert run.predict(cell) == pytest.approx(expected_s)
    if model == "dropout":  # which trains alone in another precision
        assert run.predict(replace(cell, precision="bf16")) == pytest.approx(20)
