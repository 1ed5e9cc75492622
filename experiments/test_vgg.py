"""Train VGG (note 94) under every loss, schedule and parallelism of the profile."""

import pytest


@pytest.mark.decathlon(topic="vgg")
def test_vgg(decathlon_record):
    decathlon_record.check()
