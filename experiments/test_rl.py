"""Deep RL (note 97) under every loss, schedule and parallel configuration of the profile."""

import pytest


@pytest.mark.decathlon(topic="rl")
def test_rl(record):
    record.check()
