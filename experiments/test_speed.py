"""Time each topic's recipe against a yardstick, alone on the machine: compare judges by it."""

import pytest
import torch

from harness.studies import speed
from harness.topics.registry import registered_topics


@pytest.mark.parametrize("topic", sorted(registered_topics()))
def test_speed(topic, benchmark, decathlon_run):
    if benchmark.disabled:
        pytest.skip("pytest-benchmark is disabled (--benchmark-disable): nothing is timed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = next(iter(decathlon_run.topics[topic].models))
    try:
        found = benchmark.pedantic(speed.measure, (decathlon_run, topic, model), rounds=1)
    finally:
        torch.set_num_threads(threads)
    assert (found["step_ms"] > 0).all() and (found["yardstick_ms"] > 0).all()
