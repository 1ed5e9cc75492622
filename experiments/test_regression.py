"""Regression (note 95) under every loss, schedule and parallel configuration of the profile."""

import pytest


@pytest.mark.decathlon(topic="regression")
def test_regression(record):
    record.check()
