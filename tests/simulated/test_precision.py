"""Precisions on a simulated GPU: bf16's numbers are the CPU's, tf32's flags for its steps."""

from dataclasses import replace

import pytest
import torch

from harness import matrix
from harness.cell import Cell
from harness.topics.registry import registered_topics

TOPICS = registered_topics()
FIRST = [
    Cell(name, next(m for m in topic.models if m not in topic.fits), *topic.recipe)
    for name, topic in TOPICS.items()
]
CPU = torch.device("cpu")


@pytest.mark.parametrize("cell", FIRST, ids=lambda cell: cell.id)
def test_bf16_trains_there_as_on_the_cpu_and_no_step_waits(cell, training, log):
    cell = replace(cell, precision="bf16")
    own, there = training(cell), training(cell, CPU)
    own.advance()
    with log.phase("step"):
        own.advance()
    there.run(2)
    both = [torch.stack(one.losses).cpu() for one in (own, there)]
    torch.testing.assert_close(*both, rtol=2e-2, atol=1e-3)
    assert log.counts("step").get("wait", 0) == log.counts("step").get("h2d", 0) == 0


def test_tf32_is_for_a_gpu_and_its_steps_only(training, log, monkeypatch):
    cell = replace(FIRST[0], precision="tf32")
    assert matrix.skip_reason(TOPICS[cell.topic], cell, 1) is None
    own, seen = training(cell), []
    draw = own._draw
    monkeypatch.setattr(
        own, "_draw", lambda: seen.append(torch.backends.cudnn.allow_tf32) or draw()
    )
    own.advance()
    own.evaluate()
    assert set(seen) == {True} and not torch.backends.cudnn.allow_tf32
