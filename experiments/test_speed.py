"""Time topics' recipes against yardsticks, alone on the machine: compare judges by it."""

import pytest

from harness.studies import speed
from harness.topics.registry import registered_topics


@pytest.fixture(scope="module")
def timed(request, decathlon_run):
    """The times of the topics of this module's selected items, which take turns."""
    option = request.config.option
    if any(getattr(option, f"benchmark_{how}", False) for how in ("disable", "skip")):
        pytest.skip("pytest-benchmark is disabled or skipped: nothing is timed")
    selected = [item for item in request.session.items if item.path == request.path]
    return speed.measure(decathlon_run, {item.callspec.params["topic"] for item in selected})


@pytest.mark.parametrize("topic", sorted(registered_topics()))
def test_speed(topic, timed):
    own = timed[timed["topic"] == topic]
    assert own["process"].nunique() == speed.PROCESSES
    assert (own[["step_ms", "small_ms", "large_ms"]] > 0).all(axis=None)
