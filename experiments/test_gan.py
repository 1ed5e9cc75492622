"""Train GANs (notes 91 and 93) under every loss, schedule and parallelism of the profile."""

import pytest


@pytest.mark.decathlon(topic="gan")
def test_gan(decathlon_record):
    decathlon_record.check()
