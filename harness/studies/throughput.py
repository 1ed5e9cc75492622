"""Throughput study: a model's training step, for pytest-benchmark to time."""

from __future__ import annotations

from typing import Any

import torch

from harness.cell import Cell
from harness.runs import Run
from harness.training.loop import Training
from harness.trial import cost, device, flops
from harness.trial.memory import PeakMemory


class Case:
    """A model's training under its default loss and schedule, to be timed step by step.

    It is where the run trains the model.
    """

    def __init__(self, run: Run, topic: str, model: str) -> None:
        own = run.topics[topic]
        cell = Cell(topic, model, *own.recipe)
        self.device = torch.device(run.place(cell))
        self.budget = own.budget("quick", model)
        self.training = Training(own, cell, self.budget, self.device)

    def step(self) -> None:
        """Run one training step as cells do, and wait until the device has finished it."""
        with device.repeatable(self.device.type):
            self.training.advance()
            cost.synchronise(self.device)

    def report(self, step_s: float) -> dict[str, Any]:
        """Return rates and costs for a step that takes ``step_s`` seconds.

        samples_per_s, step_ms, peak_memory_mb, flops_per_step, and share_of_peak: FLOP/s as a share
        of what this device was just measured to reach on a float32 matrix product. Of a GPU whose
        maker's figure is known, share_of_makers_peak is the share of that. An agent's passes to act
        count, on the CPU too.
        """
        flops_per_step = flops.count(self.step)
        memory = PeakMemory(self.device)
        with memory.watched():
            self.step()
        flops_per_s, maker = flops_per_step / step_s, flops.makers_peak(self.device)
        with device.repeatable(self.device.type):  # in full float32 whatever the environment says
            peak = flops.measured_peak(self.device)
        return {
            "samples_per_s": self.budget.batch_size / step_s,
            "step_ms": 1e3 * step_s,
            "peak_memory_mb": memory.mb,
            "flops_per_step": flops_per_step,
            "share_of_peak": flops_per_s / peak,
            **({"share_of_makers_peak": flops_per_s / maker.fp32} if maker else {}),
        }
