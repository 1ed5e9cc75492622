"""VGG (note 94) under every loss, schedule and parallel configuration of the profile."""

import pytest


@pytest.mark.decathlon(topic="vgg")
def test_vgg(record):
    record.check()
