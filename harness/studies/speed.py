"""Speed study: training steps timed in turn with a fixed piece of work, alone on the machine.

A step's time is told in units of that work, the yardstick: what slows the whole machine down, such
as its clock or a neighbour, slows both. Rounds are independent enough for an interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from harness.run import Run
from harness.studies.study import keep, task_of
from harness.training.loop import Training
from harness.trial import cost

ROUNDS = 12
REPEATS = 3  # of each in a round; the fastest counts, since others on the machine only slow down
LONG_S = 0.02  # of one repeat at least; short steps are made several times


def measure(run: Run, topic: str, model: str) -> pd.DataFrame:
    """Time a recipe's steps and the yardstick in ROUNDS turns, and keep them in ``speed.csv``.

    Columns: topic, model, round, step_ms, yardstick_ms.
    """
    task = task_of(run, topic, model)
    device = torch.device(task.device)
    training = Training(task.topic, task.cell, task.budget, device, rate=run.rates.of(task.cell))
    for network in training.networks.values():
        network.train()

    def step() -> None:
        training.advance()
        cost.synchronise(device)

    yardstick = _yardstick(device)
    steps, lengths = (_long_enough(work) for work in (step, yardstick))
    rows = []
    for number in range(ROUNDS):
        step_s = min(_seconds(step, steps) for _ in range(REPEATS))
        yardstick_s = min(_seconds(yardstick, lengths) for _ in range(REPEATS))
        times = {"step_ms": 1e3 * step_s, "yardstick_ms": 1e3 * yardstick_s}
        rows.append({"topic": topic, "model": model, "round": number, **times})
    return keep(run, "speed", task, rows)


def _yardstick(device: torch.device) -> Callable[[], None]:
    """Return the fixed piece of work: forward and backward passes of a small convolutional net."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16 * 16, 64)
    ).to(device)
    x_BCHW = torch.randn(16, 8, 16, 16, generator=generator).to(device)

    def work() -> None:
        network.zero_grad()
        network(x_BCHW).square().mean().backward()
        cost.synchronise(device)

    return work


def _long_enough(work: Callable[[], None]) -> int:
    """Return how often to do some work so that it takes LONG_S, after warming it up."""
    for _ in range(3):
        work()
    return max(1, round(LONG_S / max(1e-6, _seconds(work, 5))))


def _seconds(work: Callable[[], None], times: int) -> float:
    """Return the seconds that a piece of work takes, as a mean over ``times``."""
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times
