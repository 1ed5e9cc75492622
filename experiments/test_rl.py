"""Train deep-RL agents (note 97) under every loss, schedule and parallelism of the profile."""

import pytest


@pytest.mark.decathlon(topic="rl")
def test_rl(decathlon_record):
    decathlon_record.check()
