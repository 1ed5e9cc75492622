"""What a machine's core is beside the one whose seconds the budgets expect."""

import pytest
import torch
from toy import Toy

from harness.cell import Cell
from harness.runs import Run
from harness.trial import cost


def test_slowness_is_how_long_a_pass_takes_beside_the_budgets_core(monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr(cost.time, "process_time", lambda: next(ticks) * cost.PASS_S * 1.5)
    cost.slowness.cache_clear()
    threads = torch.get_num_threads()
    assert cost.slowness() == pytest.approx(1.5)
    assert torch.get_num_threads() == threads
    cost.slowness.cache_clear()


def test_a_run_expects_its_cells_to_take_as_much_longer_as_this_core_is_slower(
    monkeypatch, tmp_path
):
    run = Run(tmp_path, {"toy": Toy()}, "quick")
    cell = Cell("toy", "line", "mse", "cosine")
    monkeypatch.setattr(cost, "slowness", lambda: 3.0)
    assert run.predict(cell) == pytest.approx(0.3)
