"""Check each topic's parallel training against single-process training (note 96)."""

import pytest

from harness.studies.parity import parity
from harness.topics.registry import registered_topics


@pytest.mark.parametrize("topic", sorted(registered_topics()))
def test_parity(topic, decathlon_run):
    if decathlon_run.profile == "smoke":
        pytest.skip("parity of every configuration is measured in the profiles quick and full")
    table = parity(decathlon_run, topic)
    assert table["equal"][table["exact"]].all(), table.to_string()
    assert (table["reason"][~table["exact"]] != "").all()
