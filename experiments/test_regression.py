"""Train regression models (note 95) under every loss, schedule and parallelism of the profile."""

import pytest


@pytest.mark.decathlon(topic="regression")
def test_regression(decathlon_record):
    decathlon_record.check()
