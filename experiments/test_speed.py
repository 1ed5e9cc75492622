"""Time all topics' recipes against yardsticks, alone on the machine: compare judges by it."""

import pytest

from harness.studies import speed


def test_speed(benchmark, decathlon_run):
    if benchmark.disabled:
        pytest.skip("pytest-benchmark is disabled (--benchmark-disable): nothing is timed")
    found = benchmark.pedantic(speed.measure, (decathlon_run,), rounds=1)
    assert found["process"].nunique() == speed.PROCESSES
    assert (found[["step_ms", "small_ms", "large_ms"]] > 0).all(axis=None)
