"""Train style transfer (note 93) under every loss, schedule and parallelism of the profile."""

import pytest


@pytest.mark.decathlon(topic="style_gan")
def test_style_gan(decathlon_record):
    decathlon_record.check()
